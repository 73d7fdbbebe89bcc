// Package presets has what key management services cost and allow, as far as a
// source could be read. What has no figure here must be given by the user.
package presets

import (
	"maps"
	"slices"
	"time"
)

// Figure is a number with where it was read.
type Figure struct {
	Value  float64 `json:"value"`
	Source string  `json:"source"` // address
	Date   string  `json:"date"`   // that the source gives for itself, or of the copy that was read
	Note   string  `json:"note,omitempty"`
}

// Preset is a KMS. A nil Figure is one that no source was found for.
type Preset struct {
	Name     string  `json:"name"`
	Quota    *Figure `json:"quota"`     // calls a second
	Price    *Figure `json:"price"`     // USD per 10,000 calls
	Free     *Figure `json:"free"`      // calls a month
	KeyPrice *Figure `json:"key_price"` // USD a month per key or version
	Destroy  *Figure `json:"destroy"`   // seconds from the order until a key is gone
	Erasable bool    `json:"erasable"`
	// FreeOnceOrdered: a key whose destruction is ordered costs nothing.
	FreeOnceOrdered bool `json:"free_once_ordered"`
	// Local: its latency is measured in the planner's process.
	Local bool `json:"local"`
}

const day = float64(24 * time.Hour / time.Second)

// None of the services publishes a latency: it is measured (-kms) or given.
var all = map[string]Preset{
	"local": {
		Name: "a key file on this machine", Local: true, Erasable: true, FreeOnceOrdered: true,
		Quota: &Figure{0, "package localkms", "", "in the process: no quota"}, Price: &Figure{0, "package localkms", "", ""},
		Free: &Figure{0, "package localkms", "", ""}, KeyPrice: &Figure{0, "package localkms", "", ""},
		Destroy: &Figure{0, "package localkms, EraseSemantics", "", "copies of the file are yours to delete"},
	},
	"aws": {
		Name: "AWS KMS", Erasable: true, FreeOnceOrdered: true,
		Quota:    &Figure{10_000, "https://docs.aws.amazon.com/kms/latest/developerguide/requests-per-second.md", "as stored, undated", "symmetric keys, shared by all calls of an account and region; 20,000 in us-east-2, ap-southeast-1, ap-southeast-2, ap-northeast-1, eu-central-1, eu-west-2; 100,000 in us-east-1, us-west-2, eu-west-1; can be raised"},
		Price:    &Figure{0.03, "https://cloudburn.io/blog/aws-kms-pricing", "2026-03-14", "by its account from https://aws.amazon.com/kms/pricing/, whose table of prices was not in the copy read"},
		Free:     &Figure{20_000, "https://aws.amazon.com/kms/pricing/", "as stored, undated", "over all regions"},
		KeyPrice: &Figure{1, "https://aws.amazon.com/kms/pricing/", "as stored, undated", "keys that are scheduled for deletion cost nothing"},
		Destroy:  &Figure{7 * day, "https://github.com/awsdocs/aws-kms-developer-guide/blob/059d59f4a622ca7b8564cd590f0e04895ca2feee/doc_source/deleting-keys.md", "commit 059d59f", "the shortest waiting period; up to 24 hours more; 30 days unless set"},
	},
	"gcp": {
		Name: "Google Cloud KMS", Erasable: true, FreeOnceOrdered: false,
		// Quota: since 2026-02-16 limits are set per project from its own usage
		// (https://documentation.s3ns.fr/kms/quotas): there is no figure for all.
		Price:    &Figure{0.03, "https://cloud.google.com/kms/pricing/?hl=ja", "2025-03-17", "software and HSM keys for AES-256"},
		Free:     &Figure{0, "https://cloud.google.com/kms/pricing/?hl=ja", "2025-03-17", "free operations are for keys made by Autokey"},
		KeyPrice: &Figure{0.06, "https://cloud.google.com/kms/pricing/?hl=ja", "2025-03-17", "per active version of a software key; HSM 1.00. Versions scheduled for destruction are counted here as active: the source is not plain about them"},
		Destroy:  &Figure{30 * day, "https://cloud.google.com/kms/docs/destroy-restore", "as stored, undated", "the default; another can be set when the key is made"},
	},
	"azure": {
		Name: "Azure Key Vault", Erasable: true, FreeOnceOrdered: false,
		Quota: &Figure{400, "https://learn.microsoft.com/en-us/azure/key-vault/general/service-limits", "as stored, undated", "4,000 transactions in 10 s per vault and region with RSA-2048 software keys; 2,000 with HSM keys"},
		// Price and KeyPrice: the price list's figures were in no copy that could be read.
		Destroy: &Figure{7 * day, "https://learn.microsoft.com/el-gr/previous-versions/azure/key-vault/general/soft-delete-overview", "as stored, undated", "the shortest recovery period; 90 days unless set"},
	},
	"vault": {
		Name: "HashiCorp Vault or OpenBao, transit", Erasable: true, FreeOnceOrdered: true,
		// Quota: what your own servers do. Price: what they cost.
		Destroy: &Figure{0, "package vaultkms, EraseSemantics", "", "trimmed at once; snapshots that operators made hold the key until they are deleted"},
	},
}

// Get returns a preset by its short name.
func Get(name string) (Preset, bool) {
	p, ok := all[name]
	return p, ok
}

// Names are the short names of all, sorted.
func Names() []string { return slices.Sorted(maps.Keys(all)) }
