package main

import (
	"encoding/json"
	"fmt"
	"time"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config"
	definitions "istio.io/istio/pkg/config/crd"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// cluster is what the API server and the controllers make of the objects: defaults are applied, Deployments have pods, all of them ready,
// Services have addresses and endpoints.
type cluster struct {
	namespace string
	services  []*corev1.Service
	pods      []*corev1.Pod
	// The pods that istiod makes for gateways of the Gateway API, which are among the pods.
	gateways []*corev1.Pod
	// The nodes that pods ask for by region and zone, by their names.
	nodes   map[string]*corev1.Node
	others  []runtime.Object
	configs []config.Config
}

// The time of objects that name none.
var created = metav1.NewTime(time.Unix(1_700_000_000, 0))

func newCluster(namespace string) *cluster {
	return &cluster{namespace: namespace, nodes: map[string]*corev1.Node{}}
}

func (c *cluster) add(validator *definitions.Validator, object unstructured.Unstructured) error {
	if object.GetNamespace() == "" && object.GetKind() != "Namespace" {
		object.SetNamespace(c.namespace)
	}
	if time := object.GetCreationTimestamp(); time.IsZero() {
		object.SetCreationTimestamp(created)
	}
	kind := object.GroupVersionKind()
	switch {
	case kind.Group == "" && kind.Kind == "Service":
		return into(object, &c.services, c.defaults)
	case kind.Group == "" && kind.Kind == "Pod":
		return into(object, &c.pods, func(pod *corev1.Pod) { c.ready(pod) })
	case kind.Group == "apps" && kind.Kind == "Deployment":
		var deployments []*appsv1.Deployment
		return into(object, &deployments, c.replicas)
	case kind.Group == gvk.VirtualService.Group || kind.Group == "security.istio.io":
		// the development build of 1.22 serves no v1 yet, the release does
		if kind.Version == "v1" {
			object.SetAPIVersion(kind.Group + "/v1beta1")
		}
		return c.configure(validator, object)
	case kind.Group == gvk.HTTPRoute.Group:
		return c.gateway(validator, object)
	default:
		return c.other(object)
	}
}

// into adds an object to a list of its type.
func into[T any](object unstructured.Unstructured, list *[]*T, prepare func(*T)) error {
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed); err != nil {
		return err
	}
	prepare(typed)
	*list = append(*list, typed)
	return nil
}

func (c *cluster) defaults(service *corev1.Service) {
	if service.Spec.ClusterIP == "" && service.Spec.Type != corev1.ServiceTypeExternalName {
		service.Spec.ClusterIP = fmt.Sprintf("10.2.%d.%d", len(c.services)/250, len(c.services)%250+1)
	}
	for index := range service.Spec.Ports {
		port := &service.Spec.Ports[index]
		if port.Protocol == "" {
			port.Protocol = corev1.ProtocolTCP
		}
		if port.TargetPort == (intstr.IntOrString{}) {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
}

func (c *cluster) ready(pod *corev1.Pod) {
	pod.Status = corev1.PodStatus{
		Phase:      corev1.PodRunning,
		PodIP:      fmt.Sprintf("10.1.%d.%d", len(c.pods)/250, len(c.pods)%250+1),
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	pod.Spec.NodeName = c.node(pod.Spec.NodeSelector)
}

// node is the name of a node with the topology that a pod asks for.
func (c *cluster) node(selector map[string]string) string {
	region, zone := selector[corev1.LabelTopologyRegion], selector[corev1.LabelTopologyZone]
	if region == "" && zone == "" {
		return "node"
	}
	name := region + "." + zone
	topology := map[string]string{corev1.LabelTopologyRegion: region, corev1.LabelTopologyZone: zone}
	c.nodes[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: topology}}
	return name
}

// replicas adds the pods of a Deployment, named as the harness names them.
func (c *cluster) replicas(deployment *appsv1.Deployment) {
	count := int32(1)
	if deployment.Spec.Replicas != nil {
		count = *deployment.Spec.Replicas
	}
	for number := range count {
		pod := &corev1.Pod{ObjectMeta: *deployment.Spec.Template.ObjectMeta.DeepCopy(), Spec: deployment.Spec.Template.Spec}
		pod.Name, pod.Namespace = fmt.Sprintf("%s-%d", deployment.Name, number+1), deployment.Namespace
		c.ready(pod)
		c.pods = append(c.pods, pod)
	}
}

// configure adds an object of Istio, as istiod reads it, unless its definition or istiod refuses it.
func (c *cluster) configure(validator *definitions.Validator, object unstructured.Unstructured) error {
	if err := validator.ValidateCustomResource(&object); err != nil {
		return err
	}
	return c.store(object)
}

func (c *cluster) store(object unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	schema, known := collections.PilotGatewayAPI().FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&kind))
	if !known {
		return fmt.Errorf("istiod does not know %s", kind)
	}
	text, err := json.Marshal(object.Object)
	if err != nil {
		return err
	}
	var written crd.IstioKind
	if err := json.Unmarshal(text, &written); err != nil {
		return err
	}
	read, err := crd.ConvertObject(schema, &written, "cluster.local")
	if err != nil {
		return err
	}
	if _, err := schema.ValidateConfig(*read); err != nil {
		return err
	}
	c.configs = append(c.configs, *read)
	return nil
}

// gateway adds an object of the Gateway API, in the version that istiod asks for.
func (c *cluster) gateway(validator *definitions.Validator, object unstructured.Unstructured) error {
	if err := validator.ValidateCustomResource(&object); err != nil {
		return err
	}
	switch object.GetKind() {
	case gvk.HTTPRoute.Kind:
		object.SetAPIVersion(gvk.HTTPRoute.GroupVersion())
	case gvk.KubernetesGateway.Kind:
		object.SetAPIVersion(gvk.KubernetesGateway.GroupVersion())
		if err := c.deploy(object); err != nil {
			return err
		}
	}
	// istiod reads these as it reads its own objects up to 1.22, later as objects of Kubernetes
	if gvk.HTTPRoute.Version == "v1beta1" {
		return c.store(object)
	}
	return c.other(object)
}

// gatewayName is the label of the pods that istiod makes for a gateway.
const gatewayName = "gateway.networking.k8s.io/gateway-name"

// deploy adds the pod and the Service that istiod makes for a gateway.
func (c *cluster) deploy(gateway unstructured.Unstructured) error {
	made := metav1.ObjectMeta{
		Name: gateway.GetName() + "-istio", Namespace: gateway.GetNamespace(), CreationTimestamp: gateway.GetCreationTimestamp(),
		Labels: map[string]string{gatewayName: gateway.GetName()},
	}
	pod := &corev1.Pod{ObjectMeta: made}
	c.ready(pod)
	c.pods, c.gateways = append(c.pods, pod), append(c.gateways, pod)
	service := &corev1.Service{ObjectMeta: made, Spec: corev1.ServiceSpec{Selector: made.Labels}}
	listeners, _, err := unstructured.NestedSlice(gateway.Object, "spec", "listeners")
	if err != nil {
		return err
	}
	known := map[int64]bool{}
	for _, listener := range listeners {
		port, _, err := unstructured.NestedInt64(listener.(object), "port")
		if err != nil {
			return err
		}
		if !known[port] {
			known[port] = true
			service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("port-%d", port), Port: int32(port)})
		}
	}
	c.defaults(service)
	c.services = append(c.services, service)
	return nil
}

// other adds an object of a kind that istiod reads from Kubernetes. Kinds that it does not read are left out.
func (c *cluster) other(object unstructured.Unstructured) error {
	text, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	typed, _, err := kube.IstioCodec.UniversalDeserializer().Decode(text, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		return nil
	} else if err != nil {
		return err
	}
	c.others = append(c.others, typed)
	return nil
}

// objects are all objects of Kubernetes, the endpoints of the Services among them.
func (c *cluster) objects() []runtime.Object {
	objects := c.others
	for _, node := range c.nodes {
		objects = append(objects, node)
	}
	for _, pod := range c.pods {
		objects = append(objects, pod)
	}
	for _, service := range c.services {
		objects = append(objects, service)
		if len(service.Spec.Selector) == 0 {
			continue
		}
		for _, pod := range c.pods {
			if pod.Namespace == service.Namespace && labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
				objects = append(objects, slice(service, pod))
			}
		}
	}
	return objects
}

func slice(service *corev1.Service, pod *corev1.Pod) *discoveryv1.EndpointSlice {
	ready := true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: service.Name + "-" + pod.Name, Namespace: service.Namespace,
			Labels: map[string]string{discoveryv1.LabelServiceName: service.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{pod.Status.PodIP},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: pod.Name, Namespace: pod.Namespace},
		}},
	}
	for _, port := range service.Spec.Ports {
		if number := targetPort(port.TargetPort, pod); number > 0 {
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &port.Name, Port: &number, Protocol: &port.Protocol})
		}
	}
	return slice
}

// targetPort is the port of a pod that a Service port leads to; 0 if the pod declares no port of that name.
func targetPort(target intstr.IntOrString, pod *corev1.Pod) int32 {
	if target.Type == intstr.Int {
		return target.IntVal
	}
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == target.StrVal {
				return port.ContainerPort
			}
		}
	}
	return 0
}
