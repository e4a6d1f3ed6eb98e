use std::collections::{BTreeMap, HashMap};

use super::destination_rule::DestinationRules;
use super::hosts::addressed;
use super::http_route;
use super::live::{Kind, Live};
use super::service::{Pod, Pods, Service};
use super::unmodelled::{NotModelled, Notes, note};
use super::virtual_service::VirtualService;

/// All objects that affect routing, parsed and indexed.
#[derive(Debug)]
pub struct Mesh {
    pub(super) services: HashMap<String, Service>,
    pub(super) virtual_services: Vec<VirtualService>,
    pub(super) destination_rules: DestinationRules,
    pub(super) pods: Pods,
    not_modelled: Vec<NotModelled>,
}

impl Mesh {
    /// Reads the applied objects. `pods` are the ready pods: [`pods_of`](super::pods_of) returns those that the objects ask for.
    #[must_use]
    pub fn new(live: &Live, pods: Vec<Pod>) -> Self {
        let mut notes = Notes::default();
        let services = live.of(Kind::Service).map(|object| Service::read(object, &mut notes));
        let services = services.map(|service| (service.host.clone(), service)).collect();
        let read = live.of(Kind::VirtualService).map(|object| VirtualService::read(object, &mut notes));
        let (delegates, roots): (Vec<_>, Vec<_>) = read.partition(|service| service.hosts.is_empty());
        let delegates: BTreeMap<_, _> = delegates
            .into_iter()
            .map(|delegate| ((delegate.namespace.clone(), delegate.name.clone()), delegate))
            .collect();
        let roots = roots.into_iter().filter(|root| root.mesh).map(|root| root.merged(&delegates));
        let mut virtual_services: Vec<VirtualService> =
            roots.chain(http_route::read_all(live.of(Kind::HttpRoute), &mut notes)).collect();
        virtual_services.sort_by(|left, right| {
            (left.created, &left.name, &left.namespace).cmp(&(right.created, &right.name, &right.namespace))
        });
        let destination_rules = DestinationRules::read(live.of(Kind::DestinationRule), &mut notes);
        live.all().for_each(|object| note(object, &mut notes));
        Self { services, virtual_services, destination_rules, pods: Pods::new(pods), not_modelled: notes.into_sorted() }
    }

    /// The fields and objects that the model does not cover.
    #[must_use]
    pub fn not_modelled(&self) -> &[NotModelled] {
        &self.not_modelled
    }

    /// The number of pods of each version that a service selects: the distribution of requests if no rule applies.
    #[must_use]
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
