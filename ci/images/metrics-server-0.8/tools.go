//go:build tools

// Package tools pins the command that the image set of metrics-server 0.8 is made of.
package tools

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
