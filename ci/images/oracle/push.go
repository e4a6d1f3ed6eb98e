package main

import (
	"encoding/json"
	"fmt"
	"strings"

	envoycluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/test"
)

// version is the version of Istio, set by the linker.
var version string

type list = []any
type object = map[string]any

// push starts istiod with the objects of a case and notes what it would push to the client.
func (given *answer) push(t test.Failer, cluster *cluster, asked question) {
	names := map[string]string{}
	for _, pod := range cluster.pods {
		names[pod.Status.PodIP] = pod.Namespace + "/" + pod.Name
	}
	for _, service := range cluster.services {
		given.Addresses[fmt.Sprintf("%s.%s.svc.cluster.local", service.Name, service.Namespace)] = service.Spec.ClusterIP
	}
	server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{KubernetesObjects: cluster.objects(), Configs: cluster.configs})
	kind := model.SidecarProxy
	if asked.Gateway {
		kind = model.Router
	}
	address := "10.3.0.1"
	for _, pod := range cluster.gateways {
		if pod.Namespace == asked.Namespace && pod.Labels[gatewayName] == asked.Labels[gatewayName] {
			address = pod.Status.PodIP
		}
	}
	proxy := server.SetupProxy(&model.Proxy{
		Type:            kind,
		ConfigNamespace: asked.Namespace,
		IPAddresses:     []string{address},
		Labels:          asked.Labels,
		Locality:        &core.Locality{Region: asked.Locality[0], Zone: asked.Locality[1], SubZone: asked.Locality[2]},
		Metadata: &model.NodeMetadata{
			IstioVersion: version, Namespace: asked.Namespace, Labels: asked.Labels, ClusterID: "Kubernetes",
		},
	})
	listeners := server.Listeners(proxy)
	var routes list
	for _, config := range server.RoutesFromListeners(proxy, listeners) {
		routes = append(routes, object{"route_config": marshal(t, config)})
	}
	var active list
	for _, one := range listeners {
		active = append(active, object{"active_state": object{"listener": shortened(t, one)}})
	}
	statuses := map[string]list{}
	var protocols list
	for _, known := range server.Clusters(proxy) {
		statuses[known.Name] = list{}
		if strings.HasPrefix(known.Name, "outbound|") {
			short := envoycluster.Cluster{
				Name: known.Name, TransportSocket: known.TransportSocket, TransportSocketMatches: known.TransportSocketMatches,
				TypedExtensionProtocolOptions: known.TypedExtensionProtocolOptions,
			}
			// other policies have settings that nobody reads
			if known.LbPolicy == envoycluster.Cluster_RING_HASH || known.LbPolicy == envoycluster.Cluster_MAGLEV {
				short.LbPolicy, short.LbConfig = known.LbPolicy, known.LbConfig
			}
			protocols = append(protocols, object{"cluster": marshal(t, &short)})
		}
	}
	for _, assignment := range server.Endpoints(proxy) {
		for _, locality := range assignment.Endpoints {
			for _, endpoint := range locality.LbEndpoints {
				socket := endpoint.GetEndpoint().GetAddress().GetSocketAddress()
				address := object{"address": names[socket.GetAddress()], "port_value": socket.GetPortValue()}
				host := object{"address": object{"socket_address": address}, "priority": locality.Priority}
				statuses[assignment.ClusterName] = append(statuses[assignment.ClusterName], host)
			}
		}
	}
	var clusters list
	for name, hosts := range statuses {
		clusters = append(clusters, object{"name": name, "host_statuses": hosts})
	}
	given.Routes = encode(t, object{"configs": routes})
	given.Listeners = encode(t, object{"configs": active})
	given.Endpoints = encode(t, object{"cluster_statuses": clusters})
	given.Clusters = encode(t, object{"configs": protocols})
}

// shortened is a listener with what decides where a connection goes: its address, and the routes or clusters of its filter chains.
func shortened(t test.Failer, one *listener.Listener) object {
	chains := list{}
	add := func(chain *listener.FilterChain) object {
		filters := list{}
		for _, filter := range chain.Filters {
			config := filter.GetTypedConfig()
			switch {
			case config.MessageIs((*hcm.HttpConnectionManager)(nil)):
				var manager hcm.HttpConnectionManager
				unmarshal(t, config.UnmarshalTo(&manager))
				rds := object{"route_config_name": manager.GetRds().GetRouteConfigName()}
				filters = append(filters, object{"name": filter.Name, "typed_config": object{"rds": rds}})
			case config.MessageIs((*tcp.TcpProxy)(nil)):
				var proxy tcp.TcpProxy
				unmarshal(t, config.UnmarshalTo(&proxy))
				filters = append(filters, object{"name": filter.Name, "typed_config": marshal(t, &proxy)})
			}
		}
		return object{"filters": filters, "filter_chain_match": marshal(t, chain.FilterChainMatch)}
	}
	for _, chain := range one.FilterChains {
		chains = append(chains, add(chain))
	}
	short := object{"name": one.Name, "address": marshal(t, one.Address), "filter_chains": chains}
	if one.DefaultFilterChain != nil {
		short["default_filter_chain"] = add(one.DefaultFilterChain)
	}
	return short
}

func unmarshal(t test.Failer, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// marshal writes a message as Envoy's admin interface does.
func marshal(t test.Failer, message proto.Message) json.RawMessage {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func encode(t test.Failer, value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
