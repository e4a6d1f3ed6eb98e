//! Faults of the demo server: answers that are slow, and answers that fail.

use std::str::FromStr;
use std::time::Duration;

use hyper::Response;

use super::body::AnswerBody;

/// The faults of a demo server. They are for requests below `/work`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// The slow answers.
    pub slow: Option<SlowAnswers>,
    /// The answers that fail.
    pub fail: Option<AnswerShare>,
}

/// A share of all answers. Written as a percentage: `1%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerShare(f64);

/// Answers that are given later. Written as their share and the delay in milliseconds: `5% 40ms`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowAnswers {
    share: AnswerShare,
    delay: Duration,
}

/// The time after which a response is sent.
#[derive(Debug, Clone, Copy)]
struct Delay(Duration);

impl Faults {
    /// The faults as environment variables say: `SLOW` and `FAIL`.
    ///
    /// # Errors
    /// A value is not valid.
    pub fn of<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        let slow = variable("SLOW").map(str::parse).transpose()?;
        Ok(Self { slow, fail: variable("FAIL").map(str::parse).transpose()? })
    }

    /// Whether the request with this number fails. Numbers are hashed, so that faults look independent and are the same in each run.
    pub(super) fn fails(&self, number: u64) -> bool {
        self.fail.is_some_and(|share| share.holds(hashed(number) >> 32))
    }

    /// Marks the response to the request with this number to be sent later, if it is a slow one.
    pub(super) fn delay(&self, number: u64, response: &mut Response<AnswerBody>) {
        if let Some(slow) = self.slow.filter(|slow| slow.share.holds(hashed(number) & u64::from(u32::MAX))) {
            postpone(response, slow.delay);
        }
    }
}

/// Marks a response to be sent later, in addition to delays that it has already.
pub fn postpone<B>(response: &mut Response<B>, delay: Duration) {
    let before = delay_of(response);
    response.extensions_mut().insert(Delay(before + delay));
}

/// The time after which a response is sent.
pub fn delay_of<B>(response: &Response<B>) -> Duration {
    response.extensions().get().map_or(Duration::ZERO, |Delay(delay)| *delay)
}

/// Waits until a response may be sent.
pub async fn delayed(response: Response<AnswerBody>) -> Response<AnswerBody> {
    if let Some(Delay(delay)) = response.extensions().get() {
        tokio::time::sleep(*delay).await;
    }
    response
}

impl AnswerShare {
    /// Whether a number of 32 bits falls into the share.
    fn holds(self, bits: u64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "32 bits")]
        let fraction = bits as f64 / f64::from(u32::MAX);
        fraction < self.0
    }
}

impl FromStr for AnswerShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
        percent.map(|percent| Self(percent / 100.0)).ok_or_else(|| format!("`{text}` is not a percentage such as 1%"))
    }
}

impl FromStr for SlowAnswers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not a share with a delay in milliseconds, such as `5% 40ms`");
        let (share, delay) = text.trim().split_once(' ').ok_or_else(invalid)?;
        let millis = delay.trim().strip_suffix("ms").and_then(|number| number.parse().ok()).ok_or_else(invalid)?;
        Ok(Self { share: share.parse()?, delay: Duration::from_millis(millis) })
    }
}

/// A hash of a number: the finalizer of splitmix64 (Steele, Lea and Flood 2014).
fn hashed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_the_shares_that_are_written() {
        let faults = Faults::of(|name| Some(if name == "SLOW" { "10% 40ms" } else { "2%" })).unwrap();
        let slow = |number: &u64| {
            let mut response = Response::new(AnswerBody::default());
            faults.delay(*number, &mut response);
            response.extensions().get::<Delay>().is_some_and(|Delay(delay)| *delay == Duration::from_millis(40))
        };
        let (fail, slow): (Vec<bool>, Vec<bool>) =
            (0..100_000).map(|number| (faults.fails(number), slow(&number))).unzip();
        let count = |events: &[bool]| events.iter().filter(|event| **event).count();
        assert!((1850..2150).contains(&count(&fail)), "{}", count(&fail));
        assert!((9700..10300).contains(&count(&slow)), "{}", count(&slow));
        // neither depends on the other, nor on the request before
        let both = |shift: usize| fail.iter().zip(&slow[shift..]).filter(|(fail, slow)| **fail && **slow).count();
        assert!((150..250).contains(&both(0)) && (150..250).contains(&both(1)), "{} {}", both(0), both(1));
    }

    #[test]
    fn no_variable_is_no_fault_and_a_wrong_one_is_told() {
        assert_eq!(Faults::of(|_| None), Ok(Faults::default()));
        let slow = Faults::of(|name| (name == "SLOW").then_some("40ms")).unwrap_err();
        assert_eq!(slow, "`40ms` is not a share with a delay in milliseconds, such as `5% 40ms`");
        let fail = Faults::of(|name| (name == "FAIL").then_some("0.01")).unwrap_err();
        assert_eq!(fail, "`0.01` is not a percentage such as 1%");
    }
}
