//go:build tools

// Package tools pins the program that get.py builds.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
