//! Claims about sessions. Each session is one observation of a share, whatever the number of its requests.

mod beta_binomial;
mod design;
mod kept;
mod trial;

pub use design::SessionDesign;
pub use trial::SessionTrial;
