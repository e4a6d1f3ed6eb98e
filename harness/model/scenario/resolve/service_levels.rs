//! Claims about errors and latency.

use std::time::Duration;

use serde_saphyr::{Location, Spanned};

use super::{Context, Resolver};
use crate::scenario::error::ScenarioError;
use crate::scenario::parse;
use crate::scenario::service_level::{Comparison, Limits, Objective, ServiceLevel};
use crate::scenario::share::Share;

impl Resolver<'_> {
    /// A share of the answers that are not slow.
    fn quantile(&self, key: &str, written: &Spanned<String>) -> Result<Share, ScenarioError> {
        let share: Result<Share, _> = written.value.parse();
        let share = share.or_else(|error| self.error(written.referenced, error.to_string()))?;
        if (0.5..=0.9999).contains(&share.fraction()) {
            return Ok(share);
        }
        let message = format!("`{key}` takes shares of answers from 50% to 99.99%, such as 95%, not {share}");
        self.error(written.referenced, message)
    }

    /// Times within which shares of the answers are given, by share.
    pub(super) fn latency(
        &self,
        written: Option<parse::LatencyLimits>,
    ) -> Result<Vec<(Share, Duration)>, ScenarioError> {
        let mut latency = Vec::new();
        for (share, limit) in written.into_iter().flat_map(|written| written.value) {
            latency.push((self.quantile("latency", &share)?, limit.0));
        }
        latency.sort_by(|one, other| one.0.fraction().total_cmp(&other.0.fraction()));
        Ok(latency)
    }

    pub(super) fn limits(
        &self,
        raw: parse::Limit,
        at: Location,
        context: &Context<'_>,
    ) -> Result<ServiceLevel, ScenarioError> {
        self.known_population(&raw.from, context)?;
        let path = self.path_of(raw.path, context)?;
        let rates = self.error_rates(raw.error_rates.unwrap_or_default(), context.errors)?;
        let part = |name: &str, share: Spanned<Share>| match share.value {
            value if value.is_part() => Ok(value),
            value => self.error(share.referenced, format!("`{name}` must be between 0% and 100%, not {value}")),
        };
        let errors = raw.errors_at_most.map(|share| part("errors-at-most", share)).transpose()?;
        let place = raw.excess.as_ref().map_or(at, |excess| excess.referenced);
        let excess = raw.excess.map(|share| part("excess", share)).transpose()?;
        if let Some(written) = raw.latency.as_ref().filter(|_| !context.sending.is_open_loop) {
            return self.error(
                written.referenced,
                "`latency` needs requests that are sent at a rate, whatever is in flight, since otherwise slow answers delay the requests that would have seen them: add `traffic: {qps: …}` at the top level",
            );
        }
        let latency = self.latency(raw.latency)?;
        if errors.is_none() && latency.is_empty() {
            return self.error(at, "`latency` names no share of the answers");
        }
        let bad = errors.into_iter().map(Share::fraction);
        let bad = bad.chain(latency.iter().map(|(share, _)| 1.0 - share.fraction()));
        if let Some(bad) = bad.reduce(f64::max)
            && bad + excess.map_or(bad, Share::fraction) >= 1.0
        {
            let message = "the claimed bad share and its `excess` reach 100 %; set a smaller `excess`";
            return self.error(place, message);
        }
        let objective = Objective::Limit(Limits { errors, latency, excess });
        Ok(ServiceLevel { from: raw.from.value, path, objective, errors: rates, origin: self.origin(at) })
    }

    pub(super) fn comparison(
        &self,
        raw: parse::Compared,
        at: Location,
        context: &Context<'_>,
    ) -> Result<ServiceLevel, ScenarioError> {
        self.known_population(&raw.from, context)?;
        let path = self.path_of(raw.path, context)?;
        let errors = self.error_rates(raw.error_rates.unwrap_or_default(), context.errors)?;
        let place = raw.compare.referenced;
        let mut pairs = raw.compare.value.into_iter();
        let (Some((canary, baseline)), None) = (pairs.next(), pairs.next()) else {
            return self.error(place, "`compare` takes one pair of versions, such as {v2: v1}");
        };
        if canary.value == baseline.value {
            let message = format!("`{}` is compared with itself; name two versions, such as {{v2: v1}}", canary.value);
            return self.error(baseline.referenced, message);
        }
        let mut slower_than = Vec::new();
        for (share, factor) in raw.slower_than.into_iter().flat_map(|written| written.value) {
            slower_than.push((self.quantile("slower-than", &share)?, factor));
        }
        if raw.errors.is_none() && slower_than.is_empty() {
            return self.error(at, "`compare` claims nothing: it needs `errors` or `slower-than`");
        }
        slower_than.sort_by(|one, other| one.0.fraction().total_cmp(&other.0.fraction()));
        let (canary, baseline) = (canary.value, baseline.value);
        let objective = Objective::Compare(Comparison { canary, baseline, errors: raw.errors, slower_than });
        Ok(ServiceLevel { from: raw.from.value, path, objective, errors, origin: self.origin(at) })
    }
}
