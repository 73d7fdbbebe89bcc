package sqlopen

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// creating is held while a new file is open here, see create.
var creating sync.Mutex

// create makes the file of a new database, readable by its owner only.
//
// An existing one is not opened, not even to look: closing any descriptor of a
// file drops every POSIX lock the process has on it. SQLite's would be among
// them, and another process could then delete the write-ahead log in use.
func create(path string) error {
	creating.Lock()
	defer creating.Unlock()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// sqliteName is the data source's name of the file at an absolute path.
func sqliteName(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter is not a host
	}
	query := url.Values{"_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(ON)",
		"temp_store(MEMORY)", // statements that delete keys keep undo data: never in a file
	}}
	name := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return name.String()
}
