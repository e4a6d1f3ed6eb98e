// Command istioctl is the part of Istio's command of that name which the harness calls: `manifest generate` and `version`. It renders
// with the same package; the rest of istioctl is hundreds of packages that would be compiled for nothing.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"istio.io/istio/operator/pkg/helm"
	"istio.io/istio/operator/pkg/manifest"
	"istio.io/istio/operator/pkg/object"
	"istio.io/istio/operator/pkg/util/clog"
	"istio.io/istio/pkg/version"
)

func generate(settings []string) error {
	log := clog.NewConsoleLogger(io.Discard, os.Stderr, nil)
	components, _, err := manifest.GenManifests(nil, settings, false, nil, nil, log)
	if err != nil {
		return err
	}
	var texts []string
	for _, manifests := range components {
		texts = append(texts, manifests...)
	}
	objects, err := object.ParseK8sObjectsFromYAMLManifest(strings.Join(texts, helm.YAMLSeparator))
	if err != nil {
		return err
	}
	objects.Sort(object.DefaultObjectOrder())
	for _, object := range objects {
		text, err := object.YAML()
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
