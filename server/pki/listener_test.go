package pki

import (
	"strings"
	"testing"
)

func TestTLSTablesReportEveryFaultByItsKey(t *testing.T) {
	for _, c := range []struct {
		tls  TLSConfig
		says string
	}{
		{TLSConfig{}, ""}, {TLSConfig{Mode: "off"}, ""}, {TLSConfig{Mode: "cluster-ca",
			Names: []string{"n1.plant.lan", "10.0.0.11"}}, ""},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k"}, ""},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k", CAFile: "a", VerifyClients: true}, ""},
		{TLSConfig{Mode: "on"}, "server.tls.mode: "},
		{TLSConfig{Mode: "files", CertFile: "c"}, "server.tls.key_file: "},
		{TLSConfig{Mode: "files", KeyFile: "k"}, "server.tls.cert_file: "},
		{TLSConfig{Mode: "cluster-ca", CertFile: "c"}, "server.tls.cert_file: "},
		{TLSConfig{Mode: "cluster-ca", VerifyClients: true}, "server.tls.verify_clients: "},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k", VerifyClients: true}, "server.tls.ca_file: "},
		{TLSConfig{Mode: "files", CertFile: "c", KeyFile: "k", CAFile: "a"}, "server.tls.ca_file: "},
		{TLSConfig{Mode: "off", CAFile: "a"}, "server.tls.ca_file: "},
		{TLSConfig{Mode: "off", Names: []string{"a"}}, "server.tls.names: "},
		{TLSConfig{Mode: "cluster-ca", Names: []string{"a b"}}, "server.tls.names: "},
	} {
		err := c.tls.Validate("server.tls")
		if (c.says == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%+v: %v, want %q", c.tls, err, c.says)
		}
	}
}
