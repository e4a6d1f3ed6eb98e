// Command oracle runs istiod in process and prints what it would push to the sidecar of a client: routes, listeners, endpoints and the
// protocols of clusters, in the form of Envoy's admin interface, which the harness reads from a real sidecar too.
//
//	oracle NAMESPACE FOLDER...   one case a folder of manifests; objects without a namespace are in NAMESPACE
//	oracle < CASES               one case a line of JSON: {name, namespace, labels, locality, gateway, objects}
//	oracle schemas               the definitions of the kinds that route requests, without descriptions
//
// Each case becomes a line of JSON on the standard output, in any order. Objects that the Kubernetes API or istiod would not accept are
// in `refused`, and left out of the case. Definitions of custom resources are read from `istio.yaml` and `gateway-api.yaml` beside the
// program: their defaults are applied, as the API server does.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"istio.io/istio/pkg/config/crd"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubejson "k8s.io/apimachinery/pkg/util/json"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// question is a case: the client, and all objects as they are written.
type question struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
	// The region, the zone and the subzone of the client, each empty if it is not known.
	Locality [3]string `json:"locality"`
	// Whether the client is a pod of an ingress gateway.
	Gateway bool              `json:"gateway"`
	Objects []json.RawMessage `json:"objects"`
}

// answer is what istiod makes of a case.
type answer struct {
	Name string `json:"name"`
	// Why objects were refused, by kind, namespace and name.
	Refused map[string]string `json:"refused,omitempty"`
	// What went wrong with the whole case.
	Error string `json:"error,omitempty"`
	// The cluster IPs, by the full names of the Services.
	Addresses map[string]string `json:"addresses"`
	Routes    json.RawMessage   `json:"routes"`
	Listeners json.RawMessage   `json:"listeners"`
	Endpoints json.RawMessage   `json:"endpoints"`
	// The protocols towards the endpoints.
	Clusters json.RawMessage `json:"clusters"`
}

func main() {
	// The standard output is for the answers.
	for _, scope := range log.Scopes() {
		scope.SetOutputLevel(log.NoneLevel)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	folder := filepath.Dir(program)
	if len(os.Args) == 2 && os.Args[1] == "schemas" {
		return schemas(folder)
	}
	validator, err := crd.NewValidatorFromFiles(filepath.Join(folder, "istio.yaml"), filepath.Join(folder, "gateway-api.yaml"))
	if err != nil {
		return err
	}
	return answerAll(validator)
}

func answerAll(validator *crd.Validator) error {
	questions, errs := make(chan question), make(chan error, 1)
	go func() {
		defer close(questions)
		if len(os.Args) > 2 {
			errs <- readFolders(os.Args[1], os.Args[2:], questions)
		} else {
			errs <- readLines(os.Stdin, questions)
		}
	}()
	// A server spends most of its start waiting for its caches.
	var workers sync.WaitGroup
	var writing sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	for range 4 * runtime.GOMAXPROCS(0) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for asked := range questions {
				line := answerOne(validator, asked)
				writing.Lock()
				_, _ = out.Write(append(line, '\n'))
				_ = out.Flush()
				writing.Unlock()
			}
		}()
	}
	workers.Wait()
	return <-errs
}

func answerOne(validator *crd.Validator, asked question) []byte {
	given := answer{Name: asked.Name, Refused: map[string]string{}, Addresses: map[string]string{}}
	err := test.Wrap(func(t test.Failer) {
		cluster := newCluster(asked.Namespace)
		for _, text := range asked.Objects {
			var object unstructured.Unstructured
			if err := kubejson.Unmarshal(text, &object.Object); err != nil {
				t.Fatal(err)
			}
			if err := cluster.add(validator, object); err != nil {
				given.Refused[object.GetKind()+"/"+object.GetNamespace()+"/"+object.GetName()] = err.Error()
			}
		}
		given.push(t, cluster, asked)
	})
	if err != nil {
		given.Error = err.Error()
	}
	line, err := json.Marshal(given)
	if err != nil {
		panic(err) // parts of the answer are JSON already
	}
	return line
}

func readLines(from io.Reader, questions chan<- question) error {
	lines := json.NewDecoder(from)
	for {
		var asked question
		if err := lines.Decode(&asked); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		questions <- asked
	}
}

func readFolders(namespace string, folders []string, questions chan<- question) error {
	for _, folder := range folders {
		asked := question{Name: folder, Namespace: namespace}
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil {
			return err
		}
		for _, file := range files {
			objects, err := readFile(file)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			asked.Objects = append(asked.Objects, objects...)
		}
		questions <- asked
	}
	return nil
}

// readFile reads the objects of a file; none where it holds something else, such as a scenario.
func readFile(path string) ([]json.RawMessage, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var objects []json.RawMessage
	documents := kubeyaml.NewYAMLReader(bufio.NewReader(file))
	for {
		document, err := documents.Read()
		if err == io.EOF {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		text, err := kubeyaml.ToJSON(document)
		if err != nil {
			return nil, err
		}
		if strings.Contains(string(text), `"apiVersion"`) {
			objects = append(objects, text)
		}
	}
}
