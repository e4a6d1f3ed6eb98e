//! How fast is the model, and what stands on it? Times the embedded walk, `verify`, mutants, the compilation of many rules and single
//! requests. Exits with 1 where a target is missed: `ci/bench/model`.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::exit,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "a benchmark prints and ends"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shiftcheck::cluster::{EmbeddedMesh, Keep};
use shiftcheck::events::Events;
use shiftcheck::plan::Plan;
use shiftcheck::routing::{Client, Live, Mesh, Naming, Request, pods_of};
use shiftcheck::scenario::{Scenario, Scheme, Service, parse_manifests};
use shiftcheck::session::{Ending, Options, Pause, run};
use shiftcheck::traffic::{Driver, DriverOptions, DriverStart, Merge, Next, ObservedResponse};
use shiftcheck::venue::Embedded;
use shiftcheck::verdict::Answer;
use shiftcheck::verify::{evaluate, mutants, problems, verify};
use shiftcheck::workload::{DrivePlan, Flow, VersionSource};

const CANARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary");

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut missed = 0;
    let mut tell = |what: &str, seen: f64, unit: &str, target: f64, most: bool| {
        let kept = if most { seen <= target } else { seen >= target };
        missed += u32::from(!kept);
        let bound = if most { "at most" } else { "at least" };
        println!("{} {what}: {seen:.3} {unit} ({bound} {target})", if kept { "ok" } else { "NO" });
    };

    tell("embedded walk of the canary", runtime.block_on(walk()).as_secs_f64(), "s", 1.0, true);

    let verified = best(20, || {
        let scenario = Scenario::read(CANARY).unwrap();
        black_box(verify(&Plan::new(&scenario)).len());
    });
    tell("verify, files read", verified.as_secs_f64() * 1e3, "ms", 10.0, true);

    let scenario = Scenario::read(CANARY).unwrap();
    let mut decided = 0;
    let start = Instant::now();
    while decided < 500 {
        let plan = Plan::new(&scenario);
        for mutant in &mutants(&scenario) {
            black_box(evaluate(&plan, mutant));
            decided += 1;
        }
    }
    tell("500 mutants", start.elapsed().as_secs_f64() * 500.0 / f64::from(decided), "s", 2.0, true);

    let of_mesh = verify_many(Hosts::Names);
    tell("verify of 1,000 VirtualServices, files read", of_mesh.as_secs_f64() * 1e3, "ms", 150.0, true);
    let of_gateways = verify_many(Hosts::AtGateways);
    tell("verify of 1,000 VirtualServices on ten gateways", of_gateways.as_secs_f64() * 1e3, "ms", 200.0, true);

    let text = rules(10_000, Hosts::Names);
    let read = best(1, || drop(black_box(parse_manifests(Path::new("many.yaml"), &text).unwrap())));
    tell("20,000 objects read from one file", read.as_secs_f64(), "s", 3.0, true);

    let whole = compile(10_000, Hosts::Names);
    let twice = compile(20_000, Hosts::Names);
    tell("10,000 VirtualServices with 10,000 Services", whole.as_secs_f64(), "s", 1.0, true);
    tell("twice as many take", twice.as_secs_f64() / whole.as_secs_f64(), "times as long", 2.6, true);
    let wildcards = compile(10_000, Hosts::Wildcards);
    tell("10,000 VirtualServices for wildcard hosts", wildcards.as_secs_f64(), "s", 1.0, true);

    tell("a request's distribution", decide().as_secs_f64() * 1e6, "µs", 1.0, true);
    let merged = 1_000_000.0 / merge().as_secs_f64();
    tell("answers of 1,000 clients in one order", merged, "answers a second", 1_000_000.0, false);
    for (scheme, target) in [(Scheme::Http, 50_000.0), (Scheme::H2c, 40_000.0), (Scheme::Grpc, 40_000.0)] {
        let rate = runtime.block_on(traffic(scheme));
        tell(&format!("embedded traffic over {scheme}"), rate, "requests a second", target, false);
    }
    runtime.shutdown_background();
    std::process::exit(i32::from(missed > 0));
}

/// The best of several times.
fn best(times: u32, mut work: impl FnMut()) -> Duration {
    let took = (0..times).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    took.min().unwrap()
}

async fn walk() -> Duration {
    let mut times = Vec::new();
    for _ in 0..5 {
        let options = Options {
            venue: Arc::new(Embedded),
            keep: Keep::Never,
            cache: PathBuf::new(),
            driver: DriverOptions::default(),
            state: None,
            pause: Pause::default(),
        };
        let start = Instant::now();
        let (events, _stream) = Events::channel();
        let scenario = Scenario::read(CANARY).unwrap();
        let outcome = Box::pin(run(scenario, options, events, std::future::pending())).await.unwrap();
        assert_eq!(outcome.ending, Ending::Passed);
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// The number of gateways.
const GATEWAYS: u32 = 10;

/// The hosts of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hosts {
    Names,
    /// Each matches the names in a namespace, in which there is one Service.
    Wildcards,
    /// Those by which callers outside name services, at ten gateways.
    AtGateways,
}

/// As many rules as services, three routes each, in one file's text.
fn rules(count: u32, hosts: Hosts) -> String {
    let mut text = String::new();
    for number in 0..count {
        let name = format!("svc-{number}");
        let (namespace, host) = match hosts {
            Hosts::Names => ("many".to_owned(), name.clone()),
            Hosts::Wildcards => (format!("many-{number}"), format!("'*.many-{number}.svc.cluster.local'")),
            Hosts::AtGateways => {
                let gateway = number % GATEWAYS;
                let host = format!("{name}.edge-{gateway}.example.com");
                ("many".to_owned(), format!("{host}]\n  gateways: [edge-{gateway}"))
            }
        };
        let metadata = format!("metadata: {{name: {name}, namespace: {namespace}}}");
        write!(
            text,
            "apiVersion: v1\nkind: Service\n{metadata}\nspec:\n  selector: {{app: {name}}}\n  ports: [{{name: http, port: 8080}}]\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\n{metadata}\nspec:\n  hosts: [{host}]\n  http:\n    \
             - match: [{{headers: {{end-user: {{exact: testers}}}}}}]\n      route: [{{destination: {{host: {name}}}}}]\n    \
             - match: [{{uri: {{prefix: /api}}}}]\n      route: [{{destination: {{host: {name}}}}}]\n    \
             - route: [{{destination: {{host: {name}}}}}]\n---\n"
        )
        .unwrap();
    }
    text
}

/// Compiles as many rules as services for one client.
fn compile(count: u32, hosts: Hosts) -> Duration {
    let mut live = Live::new("many", "many");
    for manifest in parse_manifests(Path::new("many.yaml"), &rules(count, hosts)).unwrap() {
        live.apply(&manifest);
    }
    best(3, || {
        let mesh = Mesh::new(&live, pods_of(&live, &Naming::default()));
        let client = Client::new("many", BTreeMap::new());
        let routes = mesh.outbound(client).all().map(|routes| routes.table.routes.len()).sum::<usize>();
        assert_eq!(routes, 3 * count as usize);
    })
}

/// Checks a claim about one of many rules, as the command does.
fn verify_many(hosts: Hosts) -> Duration {
    let gateways = (0..if hosts == Hosts::AtGateways { GATEWAYS } else { 0 }).map(|number| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: edge-{number}, namespace: many}}\nspec:\n  \
             selector: {{istio: ingressgateway}}\n  \
             servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*.edge-{number}.example.com']}}]\n---\n"
        )
    });
    let gateways: String = gateways.collect();
    let population = match hosts {
        Hosts::AtGateways => "{through: gateway/edge-0, host: svc-0.edge-0.example.com}",
        Hosts::Names | Hosts::Wildcards => "{}",
    };
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("many.yaml", &(gateways + &rules(1_000, hosts)));
    put("client.yaml", &std::fs::read_to_string(Path::new(CANARY).join("httpbin.yaml")).unwrap());
    put(
        "scenario.yaml",
        &format!(
            "name: many\nnamespace: many\nservice: http://svc-0:8080\nclient: {{manifest: client.yaml, pod: httpbin}}\n\
             version: {{header: x-version}}\npopulations: {{everyone: {population}}}\nstages:\n  - name: all\n    apply: [many.yaml]\n    \
             expect: [{{from: everyone, status: 503}}]\n"
        ),
    );
    best(5, || {
        let scenario = Scenario::read(folder.path()).unwrap();
        let plan = Plan::new(&scenario);
        black_box((verify(&plan).len(), problems(&plan).len()));
    })
}

fn decide() -> Duration {
    const TIMES: u32 = 200_000;
    let scenario = Scenario::read(CANARY).unwrap();
    let mut live = Live::new("canary", "canary");
    scenario.stages[..4].iter().for_each(|stage| live.step_through(stage));
    let mesh = Mesh::new(&live, pods_of(&live, &Naming::default()));
    let client = Client::new("canary", BTreeMap::new());
    let request = Request::get("svc-hello", 8080, "/").with("end-user", "testers");
    let routes = mesh.outbound(client).routes(&request).unwrap();
    best(5, || {
        for _ in 0..TIMES {
            black_box(routes.decide(black_box(&request)).distribution);
        }
    }) / TIMES
}

/// A million answers of a thousand clients, put in the order of sending.
fn merge() -> Duration {
    const CLIENTS: usize = 1000;
    const EACH: usize = 1000;
    let now = Instant::now();
    let start = DriverStart { earliest: now, latest: now };
    let answer = Answer::Version { version: "v1".to_owned(), status: 200 };
    best(5, || {
        let (mut merge, mut passed) = (Merge::of(CLIENTS), 0);
        for at in 0..EACH {
            for client in 0..CLIENTS {
                // each client is a little later than the one before
                let due = Duration::from_micros((at * 1000 + client) as u64);
                let (flow, kind, connection, pod) = (0, 0, 0, Some("hello-server"));
                let answered =
                    ObservedResponse { flow, kind, answer: &answer, pod, connection, due, sent: due, at: due, start };
                merge.take(client, &answered);
                while merge.next(|_| Next::Continue).is_some() {
                    passed += 1;
                }
            }
        }
        (0..CLIENTS).for_each(|client| merge.end(client));
        while merge.next(|_| Next::Continue).is_some() {
            passed += 1;
        }
        assert_eq!(passed, CLIENTS * EACH);
    })
}

/// Requests a second of the testers' halves, through the driver, loopback and the embedded mesh.
async fn traffic(scheme: Scheme) -> f64 {
    const REQUESTS: u64 = 200_000;
    let scenario = Scenario::read(CANARY).unwrap();
    let path = if scheme == Scheme::Grpc { "/helloworld.Greeter/SayHello" } else { "/" };
    let service = Service { scheme, path: path.to_owned(), ..Service::http("svc-hello", 8080) };
    let mut embedded = EmbeddedMesh::start("canary", "httpbin", &service).unwrap();
    scenario.client.manifests.iter().for_each(|manifest| drop(embedded.apply(manifest).unwrap()));
    let service_file = match scheme {
        Scheme::Http | Scheme::Ws => "svc-hello.yaml",
        Scheme::H2c => "../h2c/svc-hello.yaml",
        Scheme::Grpc => "../grpc/svc-hello.yaml",
        Scheme::Tcp => "../tcp/svc-hello.yaml",
    };
    for file in ["hello-server-v1.yaml", "hello-server-v2.yaml", service_file, "dr-hello.yaml", "vs-hello-testers.yaml"]
    {
        let path = Path::new(CANARY).join(file);
        for manifest in shiftcheck::scenario::read_manifests(&path).unwrap() {
            embedded.apply(&manifest).unwrap();
        }
    }
    let mut driver = Driver::local(embedded.address(), DriverOptions::default());
    let plan = DrivePlan {
        id: 0,
        base: format!("{scheme}://svc-hello:8080"),
        connect: None,
        tls: None,
        connections: 16,
        streams: 1,
        in_flight: None,
        busy_qps: None,
        qps: None,
        keep_alive: true,
        timeout_ms: 10_000,
        limit_ms: 60_000,
        version: match scheme {
            Scheme::Grpc => VersionSource::Header("x-version".to_owned()),
            _ => VersionSource::Body("Hello server - (?<version>[^ ]+)".to_owned()),
        },
        pod_header: Some("x-pod".to_owned()),
        flows: vec![Flow {
            method: None,
            path: path.to_owned(),
            requests: REQUESTS,
            min_results: REQUESTS,
            message: Vec::new(),
            field: None,
            cookie: None,
            queries: Vec::new(),
            variants: vec![BTreeMap::from([("end-user".to_owned(), "testers".to_owned())])],
        }],
    };
    let mut rates = Vec::new();
    for _ in 0..5 {
        let sample = driver.drive("httpbin", "httpbin", plan.clone(), |_| Next::Continue).await.unwrap();
        rates.push(sample.rate());
    }
    rates.into_iter().fold(0.0, f64::max)
}
