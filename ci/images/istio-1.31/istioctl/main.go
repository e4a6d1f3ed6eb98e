// Command istioctl is the part of Istio's command of that name which the harness calls: `manifest generate` and `version`. It renders
// with the same package; the rest of istioctl is hundreds of packages that would be compiled for nothing.
package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"istio.io/istio/operator/pkg/manifest"
	"istio.io/istio/operator/pkg/render"
	"istio.io/istio/pkg/version"
	"sigs.k8s.io/yaml"
)

func generate(settings []string) error {
	sets, _, err := render.GenerateManifest(nil, settings, false, nil, nil)
	if err != nil {
		return err
	}
	var objects []manifest.Manifest
	for _, set := range sets {
		objects = append(objects, set.Manifests...)
	}
	definitionsFirst := func(object manifest.Manifest) int {
		if object.GetKind() == "CustomResourceDefinition" {
			return 0
		}
		return 1
	}
	slices.SortFunc(objects, func(a, b manifest.Manifest) int {
		return cmp.Or(
			cmp.Compare(definitionsFirst(a), definitionsFirst(b)),
			cmp.Compare(a.GroupVersionKind().String(), b.GroupVersionKind().String()),
			cmp.Compare(a.GetNamespace(), b.GetNamespace()),
			cmp.Compare(a.GetName(), b.GetName()))
	})
	for _, object := range objects {
		text, err := yaml.Marshal(object.Object)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n---\n", text)
	}
	return nil
}

func main() {
	var settings []string
	generated := &cobra.Command{
		Use: "generate", Short: "Prints the objects of an installation", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return generate(settings) },
	}
	generated.Flags().StringArrayVarP(&settings, "set", "s", nil, "a setting of the installation, as key=value")
	manifests := &cobra.Command{Use: "manifest", Short: "Commands about the objects of an installation"}
	manifests.AddCommand(generated)
	versioned := version.CobraCommand()
	if err := versioned.Flags().Set("short", "true"); err != nil { // as istioctl does
		panic(err)
	}
	versioned.Flags().Bool("remote", false, "ignored: no control plane is asked")
	root := &cobra.Command{Use: "istioctl", SilenceUsage: true}
	root.AddCommand(manifests, versioned)
	if root.Execute() != nil {
		os.Exit(1)
	}
}
