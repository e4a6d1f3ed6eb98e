use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::destination_rule::DestinationRules;
use super::gateway::{self, Gateway};
use super::hosts::addressed;
use super::http_route;
use super::listener;
use super::live::{Kind, Live};
use super::notes::{NotModelled, Notes, Scope};
use super::rule::Destination;
use super::secret::Secrets;
use super::service::{Pod, Pods, Service, Target};
use super::unmodelled::note;
use super::version::RoutingVersion;
use super::virtual_service::VirtualService;
use crate::scenario::IstioVersion;

/// All objects that affect routing, parsed and indexed.
#[derive(Debug)]
pub struct Mesh {
    pub(super) version: RoutingVersion,
    /// The namespace of the scenario.
    pub(super) namespace: String,
    pub(super) services: HashMap<String, Service>,
    pub(super) virtual_services: Vec<VirtualService>,
    /// In the order in which a gateway pod merges them.
    pub(super) gateways: Vec<Gateway>,
    pub(super) secrets: Secrets,
    pub(super) destination_rules: DestinationRules,
    pub(super) pods: Pods,
    /// The header of responses in which clients read the version; none if they read it elsewhere.
    pub(super) version_header: Option<String>,
    /// The fields and objects that the model does not cover.
    pub not_modelled: Vec<NotModelled>,
}

/// Notes target ports that pods do not declare although they declare others, since nothing tells whether a server listens there, and those on
/// which servers behind sidecars do not listen.
fn undeclared(service: &Service, pods: &Pods, notes: &mut Notes) {
    let Some(selector) = &service.selector else { return };
    let selected = pods.select(&service.namespace, selector);
    for port in &service.ports {
        // the sidecar of a server responds only after it has tried to connect, and others get more than their part meanwhile
        let late =
            selected.iter().filter(|pod| pod.sidecar && pod.port(&port.target).is_some_and(|own| !pod.listens(own)));
        let late: BTreeSet<String> = late.map(|pod| pod.address.clone()).collect();
        if !late.is_empty() {
            notes.scope = Scope::Late(service.host.clone(), port.number, late);
            notes.only_answers = true;
            notes.add(port.origin.clone(), "target port (on which not all pods with sidecars listen)".to_owned());
            notes.only_answers = false;
        }
        let Target::Number(number) = port.target else { continue };
        if selected.iter().any(|pod| pod.may_not_listen(number)) {
            notes.scope = Scope::Port(service.host.clone(), port.number, number);
            notes.only_answers = true;
            notes.add(port.origin.clone(), format!("target port {number} (not declared by all pods)"));
            notes.only_answers = false;
        }
    }
}

/// Leaves out mirrors of routes of the Gateway API that do not exist: unlike other destinations, they have to.
fn drop_missing_mirrors(
    version: RoutingVersion,
    virtual_services: &mut [VirtualService],
    services: &HashMap<String, Service>,
) {
    let is_missing = |(mirror, _): &(Destination, u32)| !services.contains_key(&mirror.host);
    for routes in virtual_services.iter_mut().filter(|service| service.gateway_api) {
        let broken = routes.rules.iter().filter(|rule| rule.mirrors.iter().any(is_missing));
        let broken: BTreeSet<Arc<str>> = broken.map(|rule| Arc::clone(&rule.at.object)).collect();
        // up to 1.22, the route is ignored as a whole
        routes.rules.retain(|rule| version.is_after_1_22() || !broken.contains(&rule.at.object));
        for mirrors in routes.rules.iter_mut().map(|rule| &mut rule.mirrors) {
            mirrors.retain(|mirror| !is_missing(mirror));
            if !version.is_after_1_22() {
                // up to 1.22, the percentage is ignored
                for (_, share) in mirrors.iter_mut() {
                    *share = 1_000_000;
                }
            }
        }
    }
}

impl Mesh {
    /// Reads the applied objects. `pods` are the ready pods: [`pods_of`](super::pods_of) returns those that the objects ask for.
    pub fn new(live: &Live, pods: Vec<Pod>) -> Self {
        Self::with(RoutingVersion::NEWEST, live, pods)
    }

    /// The mesh as [`new`](Self::new), with the behaviour of a version of Istio.
    pub fn of(version: &IstioVersion, live: &Live, pods: Vec<Pod>) -> Self {
        Self::with(version.into(), live, pods)
    }

    fn with(version: RoutingVersion, live: &Live, pods: Vec<Pod>) -> Self {
        let mut notes = Notes::default();
        let services = live.of(Kind::Service).map(|object| Service::read(object, &mut notes));
        let services: HashMap<String, Service> = services.map(|service| (service.host.clone(), service)).collect();
        let read = live.of(Kind::VirtualService).map(|object| VirtualService::read(object, &mut notes));
        let (delegates, roots): (Vec<_>, Vec<_>) = read.partition(|service| service.hosts.is_empty());
        let delegates: BTreeMap<_, _> = delegates
            .into_iter()
            .map(|delegate| ((delegate.namespace.clone(), delegate.name.clone()), delegate))
            .collect();
        let roots = roots.into_iter().map(|root| root.merged(&delegates));
        let of_listeners = listener::read_all(version, live, &mut notes);
        let routes = live.of(Kind::HttpRoute).chain(live.of(Kind::GrpcRoute));
        let mut virtual_services: Vec<VirtualService> =
            roots.chain(http_route::read_all(version, routes, &of_listeners, &mut notes)).collect();
        drop_missing_mirrors(version, &mut virtual_services, &services);
        virtual_services.retain(|service| !service.gateway_api || !service.rules.is_empty());
        virtual_services
            .sort_by_cached_key(|service| (service.created, version.order(&service.name, &service.namespace)));
        if !version.is_after_1_22() {
            virtual_services.sort_by_key(|service| service.delegates);
        }
        let mut gateways: Vec<Gateway> =
            live.of(Kind::Gateway).map(|object| Gateway::read(object, &mut notes)).collect();
        gateways.extend(of_listeners.into_iter().map(|listener| listener.gateway));
        gateways.sort_by_cached_key(|gateway| {
            let (created, name, namespace) = gateway.order();
            (created, version.order(name, namespace))
        });
        let secrets = Secrets::read(live);
        gateway::note(version, &gateways, &virtual_services, &secrets, &mut notes);
        let destination_rules = DestinationRules::read(version, live.of(Kind::DestinationRule), &mut notes);
        live.all().for_each(|object| note(object, &mut notes));
        let pods = Pods::new(pods);
        for service in services.values() {
            undeclared(service, &pods, &mut notes);
        }
        let not_modelled = notes.into_sorted();
        Self {
            version,
            namespace: live.namespace().to_owned(),
            services,
            virtual_services,
            gateways,
            secrets,
            destination_rules,
            pods,
            version_header: None,
            not_modelled,
        }
    }

    /// The mesh for clients that read the version, and the name of the pod, in headers of responses.
    ///
    /// Rules that change the header of the pod are named as not modelled, and so are those that change the header of the version where no
    /// pod responds, or to a value that Envoy makes up.
    #[must_use]
    pub fn read_in(mut self, version_header: Option<&str>, pod_header: Option<&str>) -> Self {
        let mut notes = Notes::default();
        notes.only_answers = true;
        for rule in self.virtual_services.iter().flat_map(|service| &service.rules) {
            let of_destinations = rule.route.iter().map(|destination| &destination.headers.response);
            let changes: Vec<_> = rule.headers.iter().map(|headers| &headers.response).chain(of_destinations).collect();
            let is_changed = |name: &str| changes.iter().any(|changes| changes.change(name));
            let is_made_up = |name: &str| changes.iter().any(|changes| changes.make_up(name));
            let version = version_header.filter(|name| is_made_up(name) || rule.route.is_empty() && is_changed(name));
            for name in version.into_iter().chain(pod_header.filter(|name| is_changed(name))) {
                notes.scope = Scope::Rule(rule.at.origin.clone());
                notes.add(rule.at.origin.clone(), format!("headers.response of this rule, which change `{name}`"));
            }
        }
        self.not_modelled.extend(notes.into_sorted());
        self.not_modelled.sort();
        self.version_header = version_header.map(ToOwned::to_owned);
        self
    }

    /// The number of pods of each version that a service selects: the distribution of requests if no rule applies.
    pub fn replicas(&self, host: &str, namespace: &str) -> BTreeMap<String, u64> {
        let service = self.services.get(&addressed(host, namespace));
        let selected =
            service.and_then(|service| Some(self.pods.select(&service.namespace, service.selector.as_ref()?)));
        let mut replicas = BTreeMap::new();
        for pod in selected.into_iter().flatten() {
            *replicas.entry(pod.version.clone()).or_default() += 1;
        }
        replicas
    }
}
