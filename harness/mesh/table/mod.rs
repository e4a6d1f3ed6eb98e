use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::EnvoyError;
use super::envoy::{ConfigDump, cluster, domain, items};
use super::upstream::upstreams;
use crate::routing::{
    Abort, Action, CertificateId, Cluster, Condition, Delay, Endpoints, Forward, HashKey, HeaderChange, Pattern,
    Polarity, Redirect, RedirectPath, ResponseHeaders, Retries, Rewrite, Route, RouteTable, RoutingUnit, Subject, Test,
};
use crate::scenario::StatusCode;

/// Reads the route table of a service port from the routes, listeners and endpoints of a sidecar. The listeners matter only if there is no
/// virtual host: a port that is declared as TCP has no routes, and its listener forwards connections to clusters. The listener is found by
/// the address of the service; where that is not known, by its name in the clusters.
///
/// # Errors
/// The sidecar has no route for the service port, or a route with an unsupported match or action.
pub fn read_table(dump: &ConfigDump, host: &str, port: u16, address: Option<&str>) -> Result<RouteTable, EnvoyError> {
    let service = Cluster { host: host.to_owned(), port, subset: None };
    if let Some(virtual_host) = dump.virtual_host(host, port) {
        read_virtual_host(dump, virtual_host.value)
    } else if let Some(listener) = address.and_then(|address| dump.listener(address, port)) {
        read_listener(dump, listener, service)
    } else if tcp_clusters(dump).any(|cluster| cluster == service) {
        Ok(connections_to(dump, service))
    } else {
        Err(EnvoyError::NoRoute(domain(host, port)))
    }
}

/// Reads the route table of a listener for plain connections to a service.
///
/// Filter chains for HTTP and for the server names of TLS do not take such connections. Those for subnets are left out: whether the address
/// is in one of them is not known.
///
/// # Errors
/// Connections are forwarded to something other than a service.
pub fn read_listener(dump: &ConfigDump, listener: &Value, service: Cluster) -> Result<RouteTable, EnvoyError> {
    let conditions = ["application_protocols", "server_names", "prefix_ranges"];
    let is_plain = |chain: &&Value| {
        conditions.iter().all(|condition| items(&chain["filter_chain_match"][condition]).next().is_none())
    };
    let chains = items(&listener["filter_chains"]).chain([&listener["default_filter_chain"]]).filter(is_plain);
    match chains.flat_map(tcp_proxies).next() {
        // Envoy connects to the address that was called, where the node balances connections
        Some(proxy) if proxy["cluster"] != "PassthroughCluster" => {
            Ok(with_endpoints(dump, RoutingUnit::Connection, vec![Route::all(forward(proxy)?)]))
        }
        _ => Ok(connections_to(dump, service)),
    }
}

/// Reads the route table of a virtual host.
///
/// # Errors
/// A route with an unsupported match or action.
pub fn read_virtual_host(dump: &ConfigDump, virtual_host: &Value) -> Result<RouteTable, EnvoyError> {
    let routes = items(&virtual_host["routes"]).map(read_route).collect::<Result<_, _>>()?;
    Ok(with_endpoints(dump, RoutingUnit::Request, routes))
}

/// Reads the route table of a gateway for requests to a host on a port of its pods, over TLS with this name in the handshake, or as HTTP.
///
/// # Errors
/// The routes of the listener are not there yet, or one has an unsupported match or action.
pub fn read_gateway(
    dump: &ConfigDump,
    port: u16,
    host: &str,
    server_name: Option<&str>,
) -> Result<RouteTable, EnvoyError> {
    let Some(listener) = dump.listener("0.0.0.0", port) else { return Ok(RouteTable::of_closed_port()) };
    let chains = || items(&listener["filter_chains"]);
    let terminates = |chain: &Value| !chain["transport_socket"].is_null();
    let Some(server_name) = server_name else {
        // a port of TLS has none of these, unless it takes HTTP, too
        let mut plain = chains().filter(|chain| !terminates(chain) && names(chain).next().is_none());
        let Some(chain) = plain.next() else { return Ok(RouteTable::of_closed_port()) };
        return match tcp_proxies(chain).next() {
            Some(proxy) => Ok(with_endpoints(dump, RoutingUnit::Connection, vec![Route::all(forward(proxy)?)])),
            None => read_host(dump, &format!("http.{port}"), host, false),
        };
    };
    let of_tls = chains().filter(|chain| terminates(chain) || tcp_proxies(chain).next().is_some());
    let of_tls = of_tls.filter_map(|chain| Some((specificity(chain, server_name)?, chain)));
    let Some((_, chain)) = of_tls.max_by_key(|(length, _)| *length) else { return Ok(RouteTable::of_closed_port()) };
    if let Some(proxy) = tcp_proxies(chain).next().filter(|_| !terminates(chain)) {
        return Ok(with_endpoints(dump, RoutingUnit::Connection, vec![Route::all(forward(proxy)?)]));
    }
    // without its certificate, Envoy closes connections
    let Some(certificate) = certificate(dump, chain) else { return Ok(RouteTable::of_closed_port()) };
    let routes =
        items(&chain["filters"]).find_map(|filter| filter["typed_config"]["rds"]["route_config_name"].as_str());
    let routes = routes.ok_or_else(|| unsupported("filter chain without routes", &chain["filter_chain_match"]))?;
    Ok(RouteTable { certificate: Some(certificate), ..read_host(dump, routes, host, true)? })
}

/// The names in handshakes that a filter chain asks for; none takes every connection.
fn names(chain: &Value) -> impl Iterator<Item = &str> {
    items(&chain["filter_chain_match"]["server_names"]).filter_map(Value::as_str)
}

/// How specifically a filter chain takes a name in a handshake; none if it does not take it.
fn specificity(chain: &Value, server_name: &str) -> Option<usize> {
    let mut names = names(chain).peekable();
    if names.peek().is_none() {
        return Some(0);
    }
    names.filter_map(|name| length(&name.to_lowercase(), server_name)).max()
}

/// The certificate that a filter chain shows; none if Envoy does not have it yet.
fn certificate(dump: &ConfigDump, chain: &Value) -> Option<CertificateId> {
    let context = &chain["transport_socket"]["typed_config"]["common_tls_context"];
    let name = items(&context["tls_certificate_sds_secret_configs"]).next()?["name"].as_str()?;
    let is_it = |config: &&Value| config["name"] == *name;
    let config = items(&dump.secrets["configs"]).find(is_it)?;
    let pem = config["secret"]["tls_certificate"]["certificate_chain"]["inline_bytes"].as_str()?;
    // `kubernetes://NAME`, and `kubernetes-gateway://NAMESPACE/NAME` for the Gateway API
    let secret = name.rsplit('/').next().unwrap_or(name);
    CertificateId::of(secret, &STANDARD.decode(pem).ok()?)
}

/// The length of the domain's part that a host ends in, or the greatest if the domain is the host; none if the domain does not have it.
fn length(domain: &str, host: &str) -> Option<usize> {
    match domain.strip_prefix('*') {
        Some("") => Some(0),
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len()),
        None => (domain == host).then_some(usize::MAX),
    }
}

/// Reads the route table of a host in a route configuration of a gateway. Requests over TLS are not redirected to HTTPS.
fn read_host(dump: &ConfigDump, name: &str, host: &str, is_tls: bool) -> Result<RouteTable, EnvoyError> {
    let configs = || items(&dump.routes["configs"]).map(|config| &config["route_config"]);
    let config =
        configs().find(|config| config["name"] == *name).ok_or_else(|| EnvoyError::NoRoute(name.to_owned()))?;
    // the port in the `Host` header does not matter at gateways
    let host = host.split(':').next().unwrap_or_default().to_lowercase();
    let own = |virtual_host: &Value| {
        items(&virtual_host["domains"]).filter_map(|domain| length(&domain.as_str()?.to_lowercase(), &host)).max()
    };
    let virtual_hosts = items(&config["virtual_hosts"]).filter_map(|one| Some((own(one)?, one)));
    match virtual_hosts.max_by_key(|(length, _)| *length) {
        None => Ok(RouteTable::default()),
        Some((_, virtual_host)) if virtual_host["require_tls"] == "ALL" && !is_tls => {
            let to = Redirect { status: 301, scheme: Some("https".to_owned()), ..Redirect::default() };
            Ok(RouteTable { routes: vec![Route::with(Vec::new(), Action::Redirect(to))], ..RouteTable::default() })
        }
        Some((_, virtual_host)) => read_virtual_host(dump, virtual_host),
    }
}

/// The route table of a listener that forwards connections to a cluster.
pub fn connections_to(dump: &ConfigDump, cluster: Cluster) -> RouteTable {
    with_endpoints(dump, RoutingUnit::Connection, vec![Route::all_to(cluster)])
}

fn with_endpoints(dump: &ConfigDump, unit: RoutingUnit, routes: Vec<Route>) -> RouteTable {
    let mut table = RouteTable { unit, routes, ..RouteTable::default() };
    table.clusters = table.targets().map(|cluster| (cluster.clone(), Endpoints::NoCluster)).collect();
    for status in items(&dump.endpoints["cluster_statuses"]) {
        let Some(cluster) = status["name"].as_str().and_then(cluster) else { continue };
        let Some(behind) = table.clusters.get_mut(&cluster) else { continue };
        let ready = || items(&status["host_statuses"]).filter_map(|own| Some((priority(own), endpoint(own)?)));
        *behind = Endpoints::Ready(ready().map(|(_, address)| address).collect());
        let first = ready().map(|(priority, _)| priority).min();
        let standby: BTreeSet<String> =
            ready().filter(|(priority, _)| Some(*priority) != first).map(|(_, address)| address).collect();
        if !standby.is_empty() {
            table.standby.insert(cluster, standby);
        }
    }
    table.upstreams = upstreams(&dump.clusters, &table);
    table
}

/// The priority of an endpoint: requests go to those with the lowest that is healthy.
fn priority(status: &Value) -> u64 {
    status["priority"].as_u64().unwrap_or(0)
}

/// The address of an endpoint; none if it is unhealthy.
fn endpoint(status: &Value) -> Option<String> {
    let health = &status["health_status"]["eds_health_status"];
    let socket = &status["address"]["socket_address"];
    let address = socket["address"].as_str().filter(|_| health.is_null() || health == "HEALTHY")?;
    Some(format!("{address}:{}", socket["port_value"].as_u64().unwrap_or(0)))
}

/// The clusters to which listeners forward connections that they do not balance by weights.
fn tcp_clusters(dump: &ConfigDump) -> impl Iterator<Item = Cluster> {
    let chains = dump.active_listeners().flat_map(|listener| items(&listener["filter_chains"]));
    chains.flat_map(tcp_proxies).filter_map(|proxy| cluster(proxy["cluster"].as_str()?))
}

/// The settings of the filters of a chain that forward connections.
fn tcp_proxies(chain: &Value) -> impl Iterator<Item = &Value> {
    let filters = items(&chain["filters"]).filter(|filter| filter["name"] == "envoy.filters.network.tcp_proxy");
    filters.map(|filter| &filter["typed_config"])
}

fn read_route(route: &Value) -> Result<Route, EnvoyError> {
    let matched = &route["match"];
    let mut conditions: Vec<Condition> =
        path_test(matched)?.map(|test| Condition::new(Subject::Path, test)).into_iter().collect();
    for header in items(&matched["headers"]) {
        conditions.push(header_condition(header)?);
    }
    for query in items(&matched["query_parameters"]) {
        let name = query["name"].as_str().unwrap_or_default().to_owned();
        conditions.push(Condition::new(Subject::Query(name), string_test(query)?));
    }
    if items(&matched["dynamic_metadata"]).next().is_some() {
        return Err(unsupported("match on token claims", matched));
    }
    conditions.sort();
    conditions.dedup();
    let action = if let Some(action) = route.get("route") {
        let (retries, timeout) = (retries(&action["retry_policy"]), duration(&action["timeout"]));
        Action::Forward(Forward { retries, timeout, ..forward(action)? })
    } else if let Some(action) = route.get("redirect") {
        Action::Redirect(redirect(action))
    } else if let Some(action) = route.get("direct_response") {
        let body = action["body"]["inline_string"].as_str().unwrap_or_default().to_owned();
        Action::Respond { status: small(&action["status"]), body }
    } else {
        return Err(unsupported("route action", route));
    };
    let fault = &route["typed_per_filter_config"]["envoy.filters.http.fault"];
    let (abort, delay) = (&fault["abort"], &fault["delay"]);
    let share = per_million(&delay["percentage"]);
    let delay = duration(&delay["fixed_delay"]).filter(|_| share > 0);
    let delay = delay.map(|duration| Delay { per_million: share, duration });
    let per_million = per_million(&abort["percentage"]);
    let status = StatusCode(small(abort.get("grpc_status").unwrap_or(&abort["http_status"])));
    let abort = (per_million > 0).then_some(Abort { per_million, status });
    Ok(Route { conditions, abort, delay, action, response: response_headers(route) })
}

fn retries(policy: &Value) -> Retries {
    if policy.is_null() {
        return Retries::NONE;
    }
    let attempts = policy["num_retries"].as_u64().and_then(|number| u32::try_from(number).ok());
    let statuses: Vec<String> = items(&policy["retriable_status_codes"]).map(Value::to_string).collect();
    let conditions = policy["retry_on"].as_str().unwrap_or_default().split(',');
    let conditions = conditions.chain(statuses.iter().map(String::as_str));
    let mut retries = Retries::after(attempts.unwrap_or(1), conditions);
    let mut predicates = items(&policy["retry_host_predicate"]);
    retries.to_others = predicates.any(|one| one["name"] == "envoy.retry_host_predicates.previous_hosts");
    retries.per_try = duration(&policy["per_try_timeout"]);
    retries
}

/// A duration such as `0.500s`; none if it is 0 or not there.
fn duration(value: &Value) -> Option<Duration> {
    let seconds = value.as_str()?.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}

/// The changes of the headers of responses, of a route or a weighted cluster.
fn response_headers(part: &Value) -> ResponseHeaders {
    let mut changes = ResponseHeaders::default();
    for name in items(&part["response_headers_to_remove"]).filter_map(Value::as_str) {
        changes.add(name, HeaderChange::Remove);
    }
    for option in items(&part["response_headers_to_add"]) {
        let text = |key: &str| option["header"][key].as_str().unwrap_or_default();
        let replaces = option["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD";
        let change = if replaces { HeaderChange::Set } else { HeaderChange::Add };
        changes.add(text("key"), change(text("value").to_owned()));
    }
    changes
}

fn path_test(matched: &Value) -> Result<Option<Test>, EnvoyError> {
    let any_case = matched["case_sensitive"] == false;
    let text = |key: &str| matched[key].as_str().map(ToOwned::to_owned);
    Ok(Some(if let Some(prefix) = text("prefix") {
        match prefix {
            prefix if prefix == "/" => return Ok(None),
            prefix if any_case => Test::PrefixInAnyCase(prefix),
            prefix => Test::Prefix(prefix),
        }
    } else if let Some(exact) = text("path") {
        if any_case { Test::ExactInAnyCase(exact) } else { Test::Exact(exact) }
    } else if let Some(prefix) = text("path_separated_prefix") {
        Test::PathPrefix(prefix)
    } else if let Some(regex) = matched["safe_regex"]["regex"].as_str() {
        Test::Regex(Pattern::new(regex))
    } else {
        return Err(unsupported("path match", matched));
    }))
}

fn header_condition(header: &Value) -> Result<Condition, EnvoyError> {
    let subject = Subject::header(header["name"].as_str().unwrap_or_default());
    let polarity = if header["invert_match"] == true { Polarity::Negative } else { Polarity::Positive };
    Ok(Condition { subject, test: string_test(header)?, polarity })
}

/// The test of a header or a query parameter.
fn string_test(part: &Value) -> Result<Test, EnvoyError> {
    let wanted = &part["string_match"];
    Ok(if let Some(exact) = wanted["exact"].as_str() {
        Test::Exact(exact.to_owned())
    } else if let Some(prefix) = wanted["prefix"].as_str() {
        Test::Prefix(prefix.to_owned())
    } else if let Some(regex) = wanted["safe_regex"]["regex"].as_str() {
        Test::Regex(Pattern::new(regex))
    } else if part["present_match"] == true {
        Test::Present
    } else {
        return Err(unsupported("header or query match", part));
    })
}

fn forward(action: &Value) -> Result<Forward, EnvoyError> {
    let named = |name: &Value| {
        let name = name.as_str().unwrap_or_default();
        cluster(name).ok_or_else(|| EnvoyError::NoService(name.to_owned()))
    };
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let mut clusters = match action["weighted_clusters"]["clusters"].as_array() {
        Some(weighted) => {
            let read = weighted.iter().map(|one| Ok((named(&one["name"])?, number(&one["weight"]).unwrap_or(0))));
            read.collect::<Result<Vec<_>, EnvoyError>>()?
        }
        None => vec![(named(&action["cluster"])?, 1)],
    };
    if let [(_, weight)] = clusters.as_mut_slice() {
        // a single destination receives every request, whatever its weight
        *weight = 1;
    }
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let regex = &action["regex_rewrite"];
    let rewrite = match (text(&action["prefix_rewrite"]), text(&regex["pattern"]["regex"])) {
        (Some(prefix), _) => Some(Rewrite::Matched(prefix)),
        (None, Some(pattern)) => {
            Some(Rewrite::Regex(Pattern::new(&pattern), text(&regex["substitution"]).unwrap_or_default()))
        }
        (None, None) => None,
    };
    let mirrors = items(&action["request_mirror_policies"])
        .map(|policy| Ok((named(&policy["cluster"])?, per_million(&policy["runtime_fraction"]["default_value"]))));
    let responses = items(&action["weighted_clusters"]["clusters"]).map(response_headers).enumerate();
    Ok(Forward {
        responses: responses.filter(|(_, own)| *own != ResponseHeaders::default()).collect(),
        rewrite,
        host: text(&action["host_rewrite_literal"]),
        mirrors: mirrors.collect::<Result<_, EnvoyError>>()?,
        hashes: items(&action["hash_policy"]).filter_map(hash_key).collect(),
        missing: if action["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR" { 500 } else { 503 },
        ..Forward::new(clusters)
    })
}

/// What a policy hashes of a request; none if it is nothing.
fn hash_key(policy: &Value) -> Option<HashKey> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let cookie = &policy["cookie"];
    if let Some(name) = policy["header"]["header_name"].as_str() {
        Some(HashKey::Header(name.to_lowercase()))
    } else if let Some(name) = text(&cookie["name"]) {
        let ttl = cookie["ttl"].is_string().then(|| duration(&cookie["ttl"]).unwrap_or_default());
        Some(HashKey::Cookie { name, path: text(&cookie["path"]).unwrap_or_default(), ttl })
    } else if let Some(name) = text(&policy["query_parameter"]["name"]) {
        Some(HashKey::Query(name))
    } else {
        (policy["connection_properties"]["source_ip"] == true).then_some(HashKey::SourceIp)
    }
}

fn redirect(action: &Value) -> Redirect {
    let text = |key: &str| action[key].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let port = small(&action["port_redirect"]);
    Redirect {
        status: match action["response_code"].as_str() {
            Some("FOUND") => 302,
            Some("SEE_OTHER") => 303,
            Some("TEMPORARY_REDIRECT") => 307,
            Some("PERMANENT_REDIRECT") => 308,
            _ => 301,
        },
        scheme: text("scheme_redirect"),
        host: text("host_redirect"),
        port: (port > 0).then_some(port),
        path: text("prefix_rewrite")
            .map(RedirectPath::Matched)
            .or_else(|| text("path_redirect").map(RedirectPath::Full)),
    }
}

/// An Envoy `FractionalPercent` in parts per million.
fn per_million(percentage: &Value) -> u32 {
    let numerator = percentage["numerator"].as_u64().unwrap_or(0);
    let factor = match percentage["denominator"].as_str() {
        Some("MILLION") => 1,
        Some("TEN_THOUSAND") => 100,
        _ => 10_000,
    };
    u32::try_from(numerator.saturating_mul(factor)).unwrap_or(u32::MAX)
}

/// A status code or a port; 0 if the value is neither.
fn small(value: &Value) -> u16 {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

fn unsupported(what: &'static str, json: &Value) -> EnvoyError {
    EnvoyError::Unsupported { what, json: json.to_string() }
}

#[cfg(test)]
mod tests;
