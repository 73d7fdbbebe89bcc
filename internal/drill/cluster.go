package drill

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/stretchr/testify/require"
)

// Machine is a place where PostgreSQL's programs are, and a folder for clusters.
type Machine struct {
	t        testing.TB
	bin, dir string
	uid, gid int
}

// NewMachine skips the test if PostgreSQL's server programs are not installed:
// where they are, or in LETHE_TEST_PGBIN.
func NewMachine(t testing.TB) *Machine {
	t.Helper()
	bin := os.Getenv("LETHE_TEST_PGBIN")
	if bin == "" {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) + strings.Compare(a, b) })
		if len(found) > 0 {
			bin = filepath.Dir(found[len(found)-1])
		} else if path, err := exec.LookPath("initdb"); err == nil {
			bin = filepath.Dir(path)
		} else {
			t.Skip("no initdb: install PostgreSQL's server, or set LETHE_TEST_PGBIN: NOTHING IS PROVED OF POSTGRESQL'S BACKUPS")
		}
	}
	m := &Machine{t: t, bin: bin}
	var err error
	m.uid, m.gid, err = unprivileged()
	if err != nil {
		t.Skipf("the superuser cannot run PostgreSQL, and there is no user postgres: NOTHING IS PROVED OF ITS BACKUPS: %v", err)
	}
	m.dir, err = os.MkdirTemp("", "lethe-drill-") //nolint:usetesting // that one is closed to other users
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(m.dir) })
	if m.uid >= 0 {
		require.NoError(t, os.Chown(m.dir, m.uid, m.gid))
	}
	return m
}

// Path returns a path on the machine.
func (m *Machine) Path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}

// Run runs a program of PostgreSQL, or another.
func (m *Machine) Run(name string, args ...string) string {
	m.t.Helper()
	if path := filepath.Join(m.bin, name); fileExists(path) {
		name = path
	}
	// Files, not pipes: a server that is started keeps them open.
	log, err := os.CreateTemp(m.t.TempDir(), "")
	require.NoError(m.t, err)
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(m.t.Context(), name, args...) //nolint:gosec // a test's own programs
	cmd.Dir, cmd.Stdout, cmd.Stderr = m.dir, log, log
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+m.dir)
	runAs(cmd, m.uid, m.gid)
	err = cmd.Run()
	out, _ := os.ReadFile(log.Name())
	require.NoError(m.t, err, "%s %v: %s", name, args, out)
	return string(out)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Cluster is a running PostgreSQL cluster that archives its log.
type Cluster struct {
	m       *Machine
	Data    string // folder
	Archive string // folder; of a replica and a restored cluster: that of the first
	port    string
	stopped bool
}

// NewCluster makes and starts a cluster.
func (m *Machine) NewCluster() *Cluster {
	m.t.Helper()
	c := &Cluster{m: m, Data: m.Path("primary"), Archive: m.Path("archive")}
	m.Run("initdb", "-D", c.Data, "-A", "trust", "-U", "lethe", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1")
	m.Run("mkdir", c.Archive)
	c.configure(
		"wal_level = replica", "archive_mode = on",
		"archive_command = 'test ! -f "+c.Archive+"/%f && cp %p "+c.Archive+"/%f'",
		"listen_addresses = '127.0.0.1'", "unix_socket_directories = '"+m.dir+"'",
		"shared_buffers = 16MB", "autovacuum = off", "min_wal_size = 8MB", "wal_keep_size = 64MB",
		"fsync = off", // nobody cuts the power
	)
	c.start()
	return c
}

func (c *Cluster) configure(lines ...string) {
	c.m.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.Data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(c.m.t, err)
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	require.NoError(c.m.t, err)
	require.NoError(c.m.t, f.Close())
}

func (c *Cluster) start() {
	c.m.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(c.m.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(c.m.t, err)
	_, c.port, _ = net.SplitHostPort(l.Addr().String())
	require.NoError(c.m.t, l.Close())
	c.m.t.Cleanup(c.Stop)
	c.m.Run("pg_ctl", "-D", c.Data, "-l", c.Data+".log", "-w", "-t", "60", "-o", "-p "+c.port, "start")
}

// Stop stops the cluster at once. It is stopped when the test ends.
func (c *Cluster) Stop() {
	if c.stopped {
		return
	}
	c.stopped = true
	cmd := exec.Command(filepath.Join(c.m.bin, "pg_ctl"), "-D", c.Data, "-m", "immediate", "-w", "stop") //nolint:gosec,noctx // a test's own server; its context has ended
	cmd.Dir = c.m.dir
	runAs(cmd, c.m.uid, c.m.gid)
	_ = cmd.Run()
}

// DSN returns the URL of a database.
func (c *Cluster) DSN(database string) string {
	return fmt.Sprintf("postgres://lethe@127.0.0.1:%s/%s?sslmode=disable", c.port, database)
}

// Open opens a database until the test ends.
func (c *Cluster) Open(database string) *sql.DB {
	c.m.t.Helper()
	db, err := sql.Open("pgx", c.DSN(database))
	require.NoError(c.m.t, err)
	c.m.t.Cleanup(func() { _ = db.Close() })
	return db
}

// Exec runs statements in a database, each on its own.
func (c *Cluster) Exec(database string, statements ...string) {
	c.m.t.Helper()
	db := c.Open(database)
	defer func() { _ = db.Close() }()
	for _, s := range statements {
		_, err := db.ExecContext(c.m.t.Context(), s)
		require.NoError(c.m.t, err, s)
	}
}

// Ask returns the one value that a query returns, as text.
func (c *Cluster) Ask(query string) (out string) {
	c.m.t.Helper()
	db := c.Open("postgres")
	defer func() { _ = db.Close() }()
	require.NoError(c.m.t, db.QueryRowContext(c.m.t.Context(), query).Scan(&out), query)
	return out
}

// BaseBackup makes a base backup and returns its folder.
func (c *Cluster) BaseBackup(name string, more ...string) string {
	c.m.t.Helper()
	dir := c.m.Path(name)
	c.m.Run("pg_basebackup", append([]string{"-h", c.m.dir, "-p", c.port, "-U", "lethe", "-D", dir, "-c", "fast", "--no-sync"}, more...)...)
	return dir
}

// Replica makes a streaming replica.
func (c *Cluster) Replica() *Cluster {
	c.m.t.Helper()
	r := &Cluster{m: c.m, Data: c.BaseBackup("replica", "-R", "-X", "stream"), Archive: c.Archive}
	r.start()
	return r
}

// Follow waits until a replica has all that c has, on disk.
func (c *Cluster) Follow(primary *Cluster) {
	c.m.t.Helper()
	lsn := primary.Ask("SELECT pg_current_wal_flush_lsn()::text")
	require.Eventually(c.m.t, func() bool {
		return c.Ask("SELECT (pg_last_wal_replay_lsn() >= '"+lsn+"'::pg_lsn)::text") == "true"
	}, 30*time.Second, 50*time.Millisecond, "the replica does not follow")
	c.Exec("postgres", "CHECKPOINT")
}

// ArchiveAll waits until the log up to now is in the archive, and the tables are
// on disk.
func (c *Cluster) ArchiveAll() {
	c.m.t.Helper()
	c.Exec("postgres", "CHECKPOINT")
	last := c.Ask("SELECT pg_walfile_name(pg_current_wal_lsn())")
	c.Exec("postgres", "SELECT pg_switch_wal()")
	require.Eventually(c.m.t, func() bool { return fileExists(filepath.Join(c.Archive, last)) },
		30*time.Second, 50*time.Millisecond, "the log is not archived")
}

// Dump writes a logical dump of a database, as SQL.
func (c *Cluster) Dump(database, name string) string {
	c.m.t.Helper()
	path := c.m.Path(name)
	c.m.Run("pg_dump", "-f", path, c.DSN(database))
	return path
}

// Load loads a dump into a fresh database.
func (c *Cluster) Load(database, path string) {
	c.m.t.Helper()
	c.Exec("postgres", "CREATE DATABASE "+database)
	c.m.Run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", path, c.DSN(database))
}

// Restore starts a copy of a base backup and replays the archive: to a restore
// point, or to its end if that is "".
func (c *Cluster) Restore(backup, name, point string) *Cluster {
	c.m.t.Helper()
	r := &Cluster{m: c.m, Data: c.m.Path(name), Archive: c.Archive}
	c.m.Run("cp", "-a", backup, r.Data)
	lines := []string{"archive_mode = off", "restore_command = 'cp " + c.Archive + "/%f %p'"}
	if point != "" {
		lines = append(lines, "recovery_target_name = '"+point+"'", "recovery_target_action = 'promote'")
	}
	r.configure(lines...)
	c.m.Run("touch", filepath.Join(r.Data, "recovery.signal"))
	r.start()
	require.Eventually(c.m.t, func() bool { return r.Ask("SELECT pg_is_in_recovery()::text") == "false" },
		60*time.Second, 50*time.Millisecond, "the backup does not recover")
	return r
}
