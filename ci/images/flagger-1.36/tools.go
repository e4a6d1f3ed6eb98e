//go:build tools

// Package tools pins the command that the image set of Flagger 1.36 is made of.
package tools

import _ "github.com/fluxcd/flagger/cmd/flagger"
