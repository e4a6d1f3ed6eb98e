//go:build tools

// Package tools pins the Istio commands that the image set of 1.22 is made of.
package tools

import (
	_ "istio.io/istio/pilot/cmd/pilot-agent"
	_ "istio.io/istio/pilot/cmd/pilot-discovery"
)
