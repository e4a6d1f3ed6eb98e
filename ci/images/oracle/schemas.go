package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// The keys of a schema that decide whether an object is accepted, and what is filled in. Descriptions do neither.
var deciding = []string{
	"additionalProperties", "allOf", "anyOf", "default", "enum", "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems",
	"maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum", "multipleOf", "not", "nullable", "oneOf",
	"pattern", "properties", "required", "type", "uniqueItems", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
	"x-kubernetes-validations",
}

// definition is what the API server knows of a kind.
type definition struct {
	// The served versions.
	Versions []string `json:"versions"`
	// The schema of the newest one: the definitions of Istio and of the Gateway API have the same in all versions.
	Schema any `json:"schema"`
}

// schemas prints the definitions of all kinds of the groups that route requests, by group and kind.
func schemas(folder string) error {
	found := map[string]definition{}
	for _, name := range []string{"istio.yaml", "gateway-api.yaml"} {
		file, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		defer file.Close()
		objects := kubeyaml.NewYAMLOrJSONDecoder(file, 4096)
		for {
			var written struct {
				Kind string
				Spec struct {
					Group    string
					Names    struct{ Kind string }
					Versions []struct {
						Name    string
						Served  bool
						Storage bool
						Schema  struct{ OpenAPIV3Schema any }
					}
				}
			}
			if objects.Decode(&written) != nil {
				break
			}
			if written.Kind != "CustomResourceDefinition" || !strings.HasPrefix(written.Spec.Group, "networking.istio.io") &&
				!strings.HasPrefix(written.Spec.Group, "gateway.networking.k8s.io") {
				continue
			}
			var kind definition
			for _, version := range written.Spec.Versions {
				if version.Served {
					kind.Versions = append(kind.Versions, version.Name)
				}
				if version.Storage {
					kind.Schema = stripped(version.Schema.OpenAPIV3Schema)
				}
			}
			found[written.Spec.Group+"/"+written.Spec.Names.Kind] = kind
		}
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// stripped is a schema without what does not decide.
func stripped(schema any) any {
	switch written := schema.(type) {
	case []any:
		for index, part := range written {
			written[index] = stripped(part)
		}
	case map[string]any:
		left := map[string]any{}
		for key, value := range written {
			switch {
			case key == "properties":
				properties := map[string]any{}
				for name, property := range value.(map[string]any) {
					properties[name] = stripped(property)
				}
				left[key] = properties
			case key == "x-kubernetes-validations":
				var rules []any
				for _, rule := range value.([]any) {
					rule := rule.(map[string]any)
					rules = append(rules, map[string]any{"rule": rule["rule"], "message": rule["message"]})
				}
				left[key] = rules
			case key == "default" || key == "enum" || key == "required":
				left[key] = value
			case slices.Contains(deciding, key):
				left[key] = stripped(value)
			}
		}
		return left
	}
	return schema
}
