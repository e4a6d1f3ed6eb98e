//! Statistics: a claim and the answers that a population got give a verdict, with its errors stated.
//!
//! A claim about a split is decided by an exact binomial band: the number of requests is the smallest for which a right
//! route is refused with a chance of at most α and a route that is wrong by δ is accepted with a chance of at most β. A claim
//! that one version answers everything is decided with zero tolerance, and the verdict says which leak it excludes.
//! There is one sample and no second chance.

mod binomial;
mod claim;
mod judge;
mod tally;

pub use binomial::{Band, leak_bound, requests_for_leak};
pub use claim::{Errors, Plan, PlanError, Rate};
pub use judge::{Ruling, Verdict, judge};
pub use tally::{Answer, Tally};
