//! Expectations and error rates.

use std::collections::BTreeMap;

use serde_saphyr::{Location, Spanned};

use super::{Context, Resolver};
use crate::demo::{ARROW, NextHop};
use crate::scenario::controller::Weights;
use crate::scenario::error::ScenarioError;
use crate::scenario::error_rates::{ErrorProbability, ErrorRates};
use crate::scenario::expectation::{Claim, DeclaredClaim, During, Expectation, Statuses};
use crate::scenario::model::VersionRule;
use crate::scenario::parse::{self, DeclaredWeights, Get, Keys, Left, Paths, Reports, ServedBy};
use crate::scenario::scheme::Scheme;
use crate::scenario::share::Share;
use crate::scenario::status::StatusCode;
use crate::scenario::suggest::nearest;

impl Resolver<'_> {
    pub(super) fn expectation(
        &self,
        keys: Spanned<Keys>,
        context: &Context<'_>,
    ) -> Result<Vec<Expectation>, ScenarioError> {
        let at = keys.referenced;
        match keys.value.form(at).or_else(|(at, message)| self.error(at, message))? {
            parse::Expectation::Claim(claim) => Ok(vec![self.about_population(*claim, at, context)?]),
            parse::Expectation::Slow(slow) => Ok(vec![Expectation::Claim(self.slow(*slow, at, context)?)]),
            parse::Expectation::Compare(compare) => {
                Ok(vec![Expectation::ServiceLevel(self.comparison(*compare, at, context)?)])
            }
            parse::Expectation::Limit(limit) => Ok(vec![Expectation::ServiceLevel(self.limits(*limit, at, context)?)]),
            parse::Expectation::Sessions(claim) => {
                Ok(vec![Expectation::Sessions(self.of_sessions(*claim, at, context)?)])
            }
            parse::Expectation::During(watched) => {
                Ok(vec![Expectation::During(self.during(watched.during, at, context)?)])
            }
            parse::Expectation::Served(_) if !context.has_counter => self.error(
                at,
                "`served` needs the request counter of a pod: add `served: {path: …, port: …}` at the top level",
            ),
            parse::Expectation::Served(ServedBy { served }) => {
                let mut served: Vec<_> = served.into_iter().collect();
                served.sort_by_key(|(workload, _)| (workload.referenced.line(), workload.referenced.column()));
                let served = served.into_iter().map(|(workload, requests)| Expectation::Served {
                    origin: self.origin(workload.referenced),
                    workload: workload.value,
                    requests,
                });
                Ok(served.collect())
            }
            parse::Expectation::Weights(DeclaredWeights { weights }) => {
                let parse::Weights { canary, stable } = weights.value;
                if (canary.fraction() + stable.fraction() - 1.0).abs() > 1e-9 {
                    return self
                        .error(weights.referenced, format!("the weights {canary} and {stable} do not sum to 100 %"));
                }
                Ok(vec![Expectation::Weights { weights: Weights { canary, stable }, origin: self.origin(at) }])
            }
            parse::Expectation::Reports(Reports { reports }) => {
                Ok(vec![Expectation::Reports { weight: reports.weight, origin: self.origin(at) }])
            }
            parse::Expectation::Left(Left { objects }) if objects.value == "none" => {
                Ok(vec![Expectation::NoObjects(self.origin(at))])
            }
            parse::Expectation::Left(Left { objects }) => {
                self.error(objects.referenced, format!("`objects` can only be `none`, not `{}`", objects.value))
            }
        }
    }

    fn during(&self, raw: parse::During, at: Location, context: &Context<'_>) -> Result<During, ScenarioError> {
        let mut last_of = BTreeMap::new();
        if let Some(written) = &raw.last_of
            && written.value.is_empty()
        {
            return self.error(written.referenced, "`last-of` names no version");
        }
        for (version, after) in raw.last_of.into_iter().flat_map(|written| written.value) {
            if !context.versions.contains(&version.value) {
                let known = context.versions.iter().map(String::as_str);
                let meant = nearest(&version.value, known);
                return self.error(version.referenced, format!("no claim names a version `{}`{meant}", version.value));
            }
            last_of.insert(version.value, after.value.0);
        }
        let gap = raw.gap.map(|gap| gap.value.0);
        let latency = self.latency(raw.latency)?;
        if raw.errors.is_none() && gap.is_none() && last_of.is_empty() && latency.is_empty() {
            return self.error(at, "`during` claims nothing: it needs `errors`, `gap`, `last-of` or `latency`");
        }
        Ok(During {
            errors: raw.errors,
            excludes: match raw.excludes {
                None => During::EXCLUDES,
                Some(share) if share.value.is_part() => share.value,
                Some(share) => {
                    return self.error(
                        share.referenced,
                        format!("`excludes` must be between 0% and 100%, not {}", share.value),
                    );
                }
            },
            miss: context.errors.miss,
            gap,
            last_of,
            latency,
            false_alarm: context.errors.false_alarm,
            origin: self.origin(at),
        })
    }

    /// Rejects the name of a population that does not exist.
    pub(super) fn known_population(&self, name: &Spanned<String>, context: &Context<'_>) -> Result<(), ScenarioError> {
        let names = || context.populations.iter().map(|population| population.name.as_str());
        if names().any(|known| known == name.value) {
            return Ok(());
        }
        let meant = nearest(&name.value, names());
        self.error(name.referenced, format!("no population is named `{}`{meant}", name.value))
    }

    fn about_population(
        &self,
        raw: parse::Claim,
        at: Location,
        context: &Context<'_>,
    ) -> Result<Expectation, ScenarioError> {
        self.known_population(&raw.from, context)?;
        match &raw.get {
            Some(get) if matches!(get.value, Get::AsDeclared) => self.declared(raw, at, context),
            _ => Ok(Expectation::Claim(self.claim(raw, at, context)?)),
        }
    }

    fn declared(&self, raw: parse::Claim, at: Location, context: &Context<'_>) -> Result<Expectation, ScenarioError> {
        let other = raw.path.map(|own| own.referenced).or(raw.status.map(|own| own.referenced));
        if let Some(other) = other {
            let message = "`get: as-declared` is about the versions that answer requests for `/`; it takes `lag` and `error-rates` only";
            return self.error(other, message);
        }
        Ok(Expectation::Declared(DeclaredClaim {
            from: raw.from.value,
            lag: raw.lag.map_or(DeclaredClaim::LAG, |lag| lag.value.0),
            errors: self.error_rates(raw.error_rates.unwrap_or_default(), context.errors)?,
            origin: self.origin(at),
        }))
    }

    fn claim(&self, raw: parse::Claim, at: Location, context: &Context<'_>) -> Result<Claim, ScenarioError> {
        let from = raw.from;
        if let Some(lag) = raw.lag {
            return self.error(lag.referenced, "`lag` belongs to `get: as-declared`");
        }
        let path = self.path_of(raw.path, context)?;
        let errors = self.error_rates(raw.error_rates.unwrap_or_default(), context.errors)?;
        let along = raw.path_of_versions.map(|paths| self.along(paths, &path, context)).transpose()?;
        let shares = raw.get.and_then(|get| match get.value {
            Get::Shares(versions) => Some((versions, get.referenced)),
            Get::AsDeclared => None,
        });
        let versions = match along.or(shares) {
            Some((versions, referenced)) => {
                let named = versions.iter().map(|(version, share)| (format!("`{version}`"), *share));
                self.shares(&named.collect::<Vec<_>>(), errors, referenced)?;
                versions
            }
            None => BTreeMap::new(),
        };
        let written = raw.status.as_ref().map_or(at, |status| status.referenced);
        let statuses = self.statuses(raw.status, context)?;
        if let Statuses::Claimed(shares) = &statuses {
            let named = shares.iter().map(|(status, share)| (format!("status {}", StatusCode(*status)), *share));
            self.shares(&named.collect::<Vec<_>>(), errors, written)?;
        }
        Ok(Claim { from: from.value, path, slower_than: None, versions, statuses, errors, origin: self.origin(at) })
    }

    /// The shares of paths of versions, which answers to requests for a path are claimed to state, with their location.
    fn along(
        &self,
        paths: Spanned<Paths>,
        path: &str,
        context: &Context<'_>,
    ) -> Result<(BTreeMap<String, Share>, Location), ScenarioError> {
        let at = paths.referenced;
        if context.service.scheme == Scheme::Grpc {
            return self.error(at, "`path-of-versions` is about requests of HTTP, and the service is one of gRPC");
        }
        if context.service.scheme == Scheme::Ws {
            return self.error(at, "`path-of-versions` is about requests of HTTP, and the service is ws");
        }
        if !matches!(context.version, VersionRule::Header(_)) {
            let message = format!(
                "`path-of-versions` reads the versions from one header, `version: {{header: x-versions}}`, not from `version: {}`",
                context.version
            );
            return self.error(at, message);
        }
        let services = 1 + NextHop::count(path);
        let of = |path: &&String| path.split(ARROW).count();
        if services > 1
            && let Some(wrong) = paths.value.0.keys().find(|path| of(path) != services)
        {
            let message = format!(
                "`{wrong}` has the versions of {} services, and a request for {path} passes {services}",
                of(&wrong)
            );
            return self.error(at, message);
        }
        Ok((paths.value.0, at))
    }

    /// A claim about the share of slow answers.
    fn slow(&self, raw: parse::Slow, at: Location, context: &Context<'_>) -> Result<Claim, ScenarioError> {
        self.known_population(&raw.from, context)?;
        let path = raw.path.map_or_else(|| Ok(context.service.path.clone()), |path| self.http_path(path))?;
        let errors = self.error_rates(raw.error_rates.unwrap_or_default(), context.errors)?;
        let place = raw.slower_than.referenced;
        if context.service.scheme == Scheme::Tcp {
            let message = "`slower-than` is about delays of requests of HTTP, and the service is tcp; use `latency`";
            return self.error(place, message);
        }
        let mut shares = raw.slower_than.value.into_iter();
        let (Some((time, share)), None) = (shares.next(), shares.next()) else {
            return self.error(place, "`slower-than` takes one time with its share, such as {400ms: 20%}");
        };
        let limit = match parse::Time::read(&time.value) {
            Ok(parse::Time(limit)) => limit,
            Err(message) => return self.error(time.referenced, message),
        };
        let [slow, within] = Claim::speeds(limit);
        self.shares(&[(slow.clone(), share), (within.clone(), share.rest())], errors, place)?;
        let (versions, statuses) = (BTreeMap::from([(slow, share), (within, share.rest())]), Statuses::Implied(200));
        let origin = self.origin(at);
        Ok(Claim { from: raw.from.value, path, slower_than: Some(limit), versions, statuses, errors, origin })
    }

    /// Checks that shares sum to 100 %, and that they stay between 0 and 100 % with the smallest detectable deviation.
    pub(super) fn shares(
        &self,
        shares: &[(String, Share)],
        errors: ErrorRates,
        at: Location,
    ) -> Result<(), ScenarioError> {
        let points = |fraction: f64| (fraction * 1e6).round() / 1e4;
        let sum: f64 = shares.iter().map(|(_, share)| share.fraction()).sum();
        if (sum - 1.0).abs() > 1e-9 {
            return self.error(at, format!("the shares sum to {} %, not to 100 %", points(sum)));
        }
        for (name, share) in shares.iter().filter(|(_, share)| share.is_part()) {
            let room = share.fraction().min(1.0 - share.fraction());
            if errors.deviation > room + 1e-9 {
                let beyond = if share.fraction() < 0.5 { "below 0 %" } else { "above 100 %" };
                return self.error(
                    at,
                    format!(
                        "a deviation of {} points from {share} of {name} reaches {beyond}; claim with `error-rates: {{deviation: {}%}}` or less",
                        points(errors.deviation),
                        points(room),
                    ),
                );
            }
        }
        Ok(())
    }

    pub(super) fn error_rates(&self, raw: parse::ErrorRates, base: ErrorRates) -> Result<ErrorRates, ScenarioError> {
        let rate = |name: &str, written: Option<Spanned<f64>>, base: ErrorProbability| match written {
            None => Ok(base),
            Some(chance) => ErrorProbability::new(chance.value).map_or_else(
                || {
                    self.error(
                        chance.referenced,
                        format!(
                            "`{name}` must be at least {:e} and below 0.5, not {}",
                            ErrorProbability::SMALLEST,
                            chance.value
                        ),
                    )
                },
                Ok,
            ),
        };
        let share = |name: &str, written: Option<Spanned<Share>>, base: f64| match written {
            None => Ok(base),
            Some(share) if share.value.is_none() || share.value.is_all() => {
                self.error(share.referenced, format!("`{name}` must be between 0% and 100%, not {}", share.value))
            }
            Some(share) if share.value.fraction() < ErrorRates::SMALLEST_EFFECT => self.error(
                share.referenced,
                format!(
                    "`{name}` must be at least {} %, not {} %",
                    100.0 * ErrorRates::SMALLEST_EFFECT,
                    100.0 * share.value.fraction()
                ),
            ),
            Some(share) => Ok(share.value.fraction()),
        };
        let max_requests = match raw.max_requests {
            Some(requests) if requests.value == 0 => {
                return self.error(requests.referenced, "`max-requests` must be at least 1");
            }
            Some(requests) if requests.value > ErrorRates::MAX_REQUESTS => {
                let message =
                    format!("`max-requests` must be at most {}, not {}", ErrorRates::MAX_REQUESTS, requests.value);
                return self.error(requests.referenced, message);
            }
            Some(requests) => requests.value,
            None => base.max_requests,
        };
        Ok(ErrorRates {
            false_alarm: rate("false-alarm", raw.false_alarm, base.false_alarm)?,
            miss: rate("miss", raw.miss, base.miss)?,
            deviation: share("deviation", raw.deviation, base.deviation)?,
            leak: share("leak", raw.leak, base.leak)?,
            max_requests,
        })
    }

    /// The error rates at the top level, under either of the two keys.
    pub(super) fn top_level_error_rates(
        &self,
        rates: Option<Spanned<parse::ErrorRates>>,
        former: Option<Spanned<parse::ErrorRates>>,
    ) -> Result<ErrorRates, ScenarioError> {
        if let (Some(_), Some(former)) = (&rates, &former) {
            return self.error(former.referenced, parse::BOTH_KEYS);
        }
        let rates = rates.or(former).map(|rates| rates.value).unwrap_or_default();
        self.error_rates(rates, ErrorRates::default())
    }
}
