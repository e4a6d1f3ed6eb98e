//! Random cases, decided by the model and by istiod. One on which they differ is made as small as possible and kept in a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Instant;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use shiftcheck::routing::{Client, Kind, Live};
use shiftcheck::scenario::{GatewayApi, parse_manifests};

use super::generate::{EDGE, MOMENTS, Written, objects};
use super::istiod::{Case, Istiod, Pushed};
use super::{Compared, VERSIONS};
use crate::common::scratch;

/// How many cases are in memory at a time, and how many an istiod is asked: what it has answered stays in its memory and makes it slower.
const CHUNK: usize = 200;
/// A run of the tests says the same each time; `ci/bench/oracle` looks at other cases.
const SEED: u64 = 1;
/// The most questions that istiod is asked to make a case smaller.
const SHRINKS: usize = 500;

/// A number that an environment variable gives.
pub fn asked<T: std::str::FromStr>(name: &str, default: impl Fn() -> T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or_else(default)
}

/// 300 cases, always the same unless `SHIFTCHECK_ORACLE_CASES` and `SHIFTCHECK_ORACLE_SEED` say otherwise. Of the cases that differ from
/// each version, 3 are shown, or `SHIFTCHECK_ORACLE_SHOWN`.
pub fn random_manifests_are_routed_as_istiod_says() {
    let count: usize = asked("SHIFTCHECK_ORACLE_CASES", || 300);
    let seed: u64 = asked("SHIFTCHECK_ORACLE_SEED", || SEED);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let mut tally = VERSIONS.map(|_| Tally::default());
    let objects = objects();
    eprintln!("{count} random cases from seed {seed}");
    let begin = Instant::now();
    for start in (0..count).step_by(CHUNK) {
        let size = CHUNK.min(count - start);
        let mut trees: Vec<_> = (0..size).map(|_| objects.new_tree(&mut runner).unwrap()).collect();
        let cases: Vec<Case> = trees.iter().map(|tree| case(&tree.current())).collect();
        let mut istiods = VERSIONS.map(Istiod::start);
        // one version is compared while the other is asked
        let different: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let versions = istiods.iter_mut().zip(&mut tally);
            let cases = &cases;
            let threads: Vec<_> =
                versions.map(|(istiod, tally)| scope.spawn(move || tally.compare(istiod, cases))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut shrunk = BTreeSet::new();
        for ((istiod, tally), different) in istiods.iter_mut().zip(&mut tally).zip(different) {
            tally.show(istiod, &different, &mut trees, &mut shrunk);
        }
        if (start + size).is_multiple_of(1000) {
            eprintln!("{} of {count} cases after {} s", start + size, begin.elapsed().as_secs());
        }
    }
    let all: String = VERSIONS.iter().zip(&tally).map(|(version, tally)| tally.shown(version, count)).collect();
    eprintln!("{all}");
    assert!(tally.iter().all(|tally| tally.different == 0), "the model differs from istiod: seed {seed}");
    // a generator whose objects are refused compares nothing, nor does a model that knows little
    assert!(tally.iter().all(|tally| tally.refused * 4 < count), "{all}");
    assert!(tally.iter().all(|tally| tally.skipped * 5 < tally.requests), "{all}");
}

/// What the comparison with one version has given.
#[derive(Default)]
struct Tally {
    different: usize,
    refused: usize,
    requests: usize,
    skipped: usize,
    reports: String,
    kept: usize,
}

impl Tally {
    /// The cases in which the model differs.
    fn compare(&mut self, istiod: &mut Istiod, cases: &[Case]) -> Vec<usize> {
        let mut different = Vec::new();
        for (index, pushed) in istiod.ask(cases).iter().enumerate() {
            self.refused += usize::from(!pushed.refused.is_empty());
            let compared = Compared::new(&istiod.version, &accepted(&cases[index], pushed), pushed);
            self.requests += compared.requests;
            self.skipped += compared.skipped;
            if !compared.differences.is_empty() {
                different.push(index);
            }
        }
        self.different += different.len();
        different
    }

    /// Shrinks the first cases that differ and keeps them.
    fn show(
        &mut self,
        istiod: &mut Istiod,
        different: &[usize],
        trees: &mut [impl ValueTree<Value = Vec<Written>>],
        shrunk: &mut BTreeSet<usize>,
    ) {
        for index in different {
            // what differs from both versions is shrunk once
            if self.kept < asked("SHIFTCHECK_ORACLE_SHOWN", || 3) && shrunk.insert(*index) {
                shrink(istiod, &mut trees[*index]);
                self.keep(istiod, &trees[*index].current());
            }
        }
    }

    fn keep(&mut self, istiod: &mut Istiod, written: &[Written]) {
        let name = format!("{}-{}", istiod.version, self.kept);
        let folder = scratch(&format!("oracle-{name}"));
        // an object a line: JSON is YAML
        let manifests = written.iter().map(|object| format!("# created at {}\n{}\n", object.created, object.manifest));
        let text = manifests.collect::<Vec<_>>().join("---\n");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("objects.yaml"), &text).unwrap();
        let differences = differ(istiod, written).join("\n");
        let _ = writeln!(self.reports, "\n{}:\n{differences}\n{text}", folder.display());
        self.kept += 1;
    }

    fn shown(&self, version: &str, count: usize) -> String {
        let Self { different, refused, requests, skipped, reports, .. } = self;
        format!(
            "{version}: {different} of {count} cases differ, {refused} hold objects that are refused; {requests} requests, \
             {skipped} of them to what is not modelled\n{reports}"
        )
    }
}

/// A case of generated objects, with a client in the namespace `here`, or with a gateway as the client if there is one.
fn case(written: &[Written]) -> Case {
    let mut live = Live::new("here", "here");
    for moment in 0..MOMENTS {
        live.later();
        for object in written.iter().filter(|object| object.created == moment) {
            let text = object.manifest.to_string();
            parse_manifests("random.yaml".as_ref(), &text).unwrap().iter().for_each(|manifest| live.apply(manifest));
        }
    }
    let labels = BTreeMap::from([("app".to_owned(), "client".to_owned()), ("tier".to_owned(), "front".to_owned())]);
    let client = Client::new("here", labels);
    let made = [(GatewayApi::GATEWAY_NAME.to_owned(), EDGE.to_owned())].into();
    let client = if live.of(Kind::KubernetesGateway).next().is_some() {
        Client { labels: made, ..client }
    } else if live.of(Kind::Gateway).next().is_some() {
        Client::ingress_gateway()
    } else {
        client
    };
    Case { name: String::new(), live, client }
}

/// The case without the objects that istiod refuses.
fn accepted(case: &Case, pushed: &Pushed) -> Case {
    if pushed.refused.is_empty() {
        return case.clone();
    }
    let mut left = Case { live: Live::new("here", "here"), ..case.clone() };
    for moment in 1..=MOMENTS {
        left.live.later();
        for object in case.live.all().filter(|object| object.created == moment) {
            let (kind, name) = (object.manifest.kind(), object.manifest.name());
            if !pushed.refused.contains_key(&format!("{kind}/{}/{name}", object.namespace)) {
                left.live.apply(&object.manifest);
            }
        }
    }
    left
}

fn differ(istiod: &mut Istiod, written: &[Written]) -> Vec<String> {
    let case = case(written);
    let pushed = istiod.ask(std::slice::from_ref(&case)).remove(0);
    Compared::new(&istiod.version, &accepted(&case, &pushed), &pushed).differences
}

/// Makes a case as small as it can be while the model differs from istiod.
fn shrink(istiod: &mut Istiod, tree: &mut impl ValueTree<Value = Vec<Written>>) {
    for _ in 0..SHRINKS {
        let smaller = if differ(istiod, &tree.current()).is_empty() { tree.complicate() } else { tree.simplify() };
        if !smaller {
            break;
        }
    }
    while differ(istiod, &tree.current()).is_empty() && tree.complicate() {}
}
