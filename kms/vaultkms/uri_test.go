package vaultkms

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]location{
		"hcvault://vault.example.com/transit/keys/customers":              {address: "https://vault.example.com", mount: "transit", name: "customers"},
		"HCVAULT://Vault.Example.COM:8200/transit/keys/Customers":         {address: "https://vault.example.com:8200", mount: "transit", name: "Customers"},
		"hcvault://[::1]:8200/a/keys/b/keys/c_d.e-f":                      {address: "https://[::1]:8200", mount: "a/keys/b", name: "c_d.e-f"},
		"hcvault://h/transit/keys/k?namespace=team/a":                     {address: "https://h", mount: "transit", name: "k", namespace: "team/a"},
		"hcvault://127.0.0.1:8200/transit/keys/k?tls=off":                 {address: "http://127.0.0.1:8200", mount: "transit", name: "k"},
		"hcvault://localhost:8200/transit/keys/k?tls=off&namespace=admin": {address: "http://localhost:8200", mount: "transit", name: "k", namespace: "admin"},
	} {
		l, err := parseURI(uri)
		require.NoError(t, err, uri)
		require.Equal(t, want, l, uri)
	}
	for _, uri := range []string{
		"", "hcvault", "hcvault:", "hcvault://", "hcvault:///transit/keys/k", "https://h/transit/keys/k", "hcvault:h/transit/keys/k",
		"hcvault://h", "hcvault://h/", "hcvault://h/transit", "hcvault://h/transit/keys/", "hcvault://h/keys/k", "hcvault://h//keys/k",
		"hcvault://h/transit/keys/k/", "hcvault://h/transit/encrypt/k", "hcvault://h/transit/keys/../k", "hcvault://h/../keys/k",
		"hcvault://h/transit/keys/a%2fb", "hcvault://h/transit%2e/keys/k", "hcvault://h/transit/keys/k%00", "hcvault://h/a b/keys/k",
		"hcvault://user@h/transit/keys/k", "hcvault://user:hunter2@h/transit/keys/k", "hcvault://h/transit/keys/k#f", "hcvault://h/transit/keys/k#",
		"hcvault://h/transit/keys/k?", "hcvault://h/transit/keys/k?token=hunter2", "hcvault://h/transit/keys/k?tls=on", "hcvault://h/transit/keys/k?tls=off",
		"hcvault://h/transit/keys/k?namespace=", "hcvault://h/transit/keys/k?namespace=a&namespace=b", "hcvault://h/transit/keys/k?namespace=../a",
		"hcvault://h/transit/keys/k?namespace=a;b", "hcvault://10.0.0.1/transit/keys/k?tls=off", "hcvault://127.0.0.1.example.com/transit/keys/k?tls=off",
		"hcvault://h:port/transit/keys/k", "hcvault://[::1/transit/keys/k", "hcvault://h/transit/keys/" + strings.Repeat("k", maxName+1),
	} {
		_, err := parseURI(uri)
		require.Error(t, err, uri)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestKeyURI(t *testing.T) {
	for address, want := range map[string]string{
		"https://Vault.example.com":     "hcvault://vault.example.com/transit/keys/k",
		"https://vault.example.com:443": "hcvault://vault.example.com/transit/keys/k",
		"https://vault:8200/":           "hcvault://vault:8200/transit/keys/k",
		"https://[::1]:443":             "hcvault://[::1]/transit/keys/k",
		"https://proxy/vault":           "hcvault://proxy/vault/transit/keys/k",
		"http://127.0.0.1:443":          "hcvault://127.0.0.1:443/transit/keys/k",
	} {
		got, err := keyURI(address, "transit", "k", "")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestCiphertextVersion(t *testing.T) {
	payload := strings.Repeat("AAAA", 10)
	for text, want := range map[string]int{"vault:v1:" + payload: 1, "vault:v2147483647:" + payload: 1<<31 - 1} {
		v, err := CiphertextVersion([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, v)
	}
	for _, text := range []string{
		"", "vault:", "vault:v1", "vault:v1:", "vault:v1:AAAA", "vault:v0:" + payload, "vault:v+1:" + payload, "vault:v01:" + payload, "vault:v:" + payload,
		"vault:v2147483648:" + payload, "Vault:v1:" + payload, " vault:v1:" + payload, "vault:v1:" + payload + "=", "vault:v1:" + payload + "\n",
		"vault:v1:" + payload + "A", "vault:v1:" + payload + "AB==", "vault:v1:" + strings.Repeat("AAAA", 30_000),
	} {
		_, err := CiphertextVersion([]byte(text))
		require.Error(t, err, text)
	}
}
