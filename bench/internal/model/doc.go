// Package model computes what a way to keep data keys costs a service: calls to
// the KMS, money, memory, time, what a leaked key opens and when a person is
// forgotten. Its functions are pure; what a machine costs comes from package
// measure, what a KMS costs from package presets. Every formula names its source;
// MODEL.md lists them all.
package model
