package localkms

import (
	"errors"
	"strings"
)

const uriPrefix = "local://"

// pathOf returns the file path in "local://PATH".
func pathOf(uri string) (string, error) {
	if len(uri) <= len(uriPrefix) || !strings.EqualFold(uri[:len(uriPrefix)], uriPrefix) {
		return "", errors.New(`localkms: the key URI is not "local://PATH" (what KeyURI returns names a key and does not say where its file is)`)
	}
	return uri[len(uriPrefix):], nil
}
