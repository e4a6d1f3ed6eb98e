//go:build tools

// Package tools pins the CoreDNS release that the node image runs.
package tools

import _ "github.com/coredns/coredns"
