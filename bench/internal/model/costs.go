package model

import "time"

// Dist is how long an operation takes. A zero Count means it was not measured.
type Dist struct {
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	Count int           `json:"count"`
}

// plus is an operation after another. Its percentiles are the sums of theirs: the
// median of a sum is near the sum of the medians where both are narrow, and the sum
// of the 99th percentiles is passed by at most 2 % of the sums, whatever the two
// have to do with each other (union bound).
func (d Dist) plus(o Dist) Dist {
	return Dist{P50: d.P50 + o.P50, P99: d.P99 + o.P99, Count: min(d.Count, o.Count)}
}

// minus takes a part away that was measured on its own.
func (d Dist) minus(o Dist) Dist {
	return Dist{P50: max(0, d.P50-o.P50), P99: max(0, d.P99-o.P99), Count: d.Count}
}

// times is an operation n times in a row; see plus.
func (d Dist) times(n float64) Dist {
	return Dist{P50: time.Duration(float64(d.P50) * n), P99: time.Duration(float64(d.P99) * n), Count: d.Count}
}

// Costs are what was measured on one machine, with Lethe itself, for one record of
// Fields sealed fields and PlainBytes of plaintext.
type Costs struct {
	Machine  Machine       `json:"machine"`
	Database string        `json:"database"`
	KMS      string        `json:"kms"` // what was called: a scheme, without address or key name
	Taken    time.Time     `json:"taken"`
	Budget   time.Duration `json:"budget"`
	Subjects int           `json:"subjects"` // in the key store that was measured

	Fields     int `json:"fields"`
	PlainBytes int `json:"plain_bytes"`

	// One record, by what is in memory: the subject's key; its page of the key tree
	// but not the key; neither; and a process that has just started, with NewKeyring.
	SealWarm        Dist `json:"seal_warm"`
	SealSubjectCold Dist `json:"seal_subject_cold"`
	SealPageCold    Dist `json:"seal_page_cold"`
	SealProcessCold Dist `json:"seal_process_cold"`
	SealNewSubject  Dist `json:"seal_new_subject"`
	OpenWarm        Dist `json:"open_warm"`
	OpenSubjectCold Dist `json:"open_subject_cold"`
	OpenPageCold    Dist `json:"open_page_cold"`
	OpenProcessCold Dist `json:"open_process_cold"`

	// What other granularities are built of: the fields of a record under one AES-256-GCM
	// key that is in memory; the same under a key that must be expanded first; and one
	// wrapped key read from the database by its primary key.
	CellsSeal     Dist `json:"cells_seal"`
	CellsOpen     Dist `json:"cells_open"`
	CellsSealKey  Dist `json:"cells_seal_key"`
	CellsOpenKey  Dist `json:"cells_open_key"`
	KeyRead       Dist `json:"key_read"`
	KMSEncrypt    Dist `json:"kms_encrypt"`
	KMSDecrypt    Dist `json:"kms_decrypt"`
	WrappedDEK    int  `json:"wrapped_dek"`     // bytes of a data key of 32 wrapped by the KMS
	KMSCallsStart int  `json:"kms_calls_start"` // of a process that starts and opens a record
	KMSCallsClose int  `json:"kms_calls_close"` // of an epoch close, destruction of the old handle included

	// Rotation, one worker, reading and writing the rows in the database.
	Rewrap        time.Duration `json:"rewrap"`         // a record
	Reseal        time.Duration `json:"reseal"`         // a record
	RotateSubject time.Duration `json:"rotate_subject"` // a subject
	Forget        Dist          `json:"forget"`
	RewrapKEK     time.Duration `json:"rewrap_kek"`      // of the store that was measured
	CloseFixed    time.Duration `json:"close_fixed"`     // an epoch close, without what follows
	CloseDirty    time.Duration `json:"close_dirty"`     // a page that lost a key
	CloseCheck    time.Duration `json:"close_check"`     // a page that is checked
	KeysPerPage   float64       `json:"keys_per_page"`   // children of a leaf page
	KeyStoreBytes float64       `json:"key_store_bytes"` // at rest per subject, indexes and pages included
	PlainKeyBytes float64       `json:"plain_key_bytes"` // at rest per row of a table (id, wrapped key)
	HeaderBytes   int           `json:"header_bytes"`    // of a record: its wrapped data key
	CellOverhead  int           `json:"cell_overhead"`   // of a field, beyond its plaintext
	KeyMemory     float64       `json:"key_memory"`      // bytes of the heap per subject in the cache
}

// Machine is where costs were measured.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPU  string `json:"cpu"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}
