//go:build tools

// Package tools pins the command that the image set of Argo Rollouts 1.8 is made of.
package tools

import _ "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"
