package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"

	"leasehold/internal/fielderr"
	"leasehold/internal/smallfile"
)

// files is what the files of an http handler hold.
type files struct {
	signer signer
	bearer string
	tls    *tls.Config
}

// readFiles reads all files and returns every fault as a *fielderr.Error of the handler's table.
func readFiles(cfg Config) (files, error) {
	f := files{tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	faults := fielderr.NewList("handler.")
	note := func(key string, err error) {
		if err != nil {
			faults.Add(key, "%w", err)
		}
	}
	for _, path := range cfg.SecretFiles {
		note("secret_files", f.addSecret(path))
	}
	note("bearer_file", f.readBearer(cfg.BearerFile))
	note("ca_file", f.readCA(cfg.CAFile))
	note("cert_file", f.readCertificate(cfg.CertFile, cfg.KeyFile))
	return f, faults.Err()
}

func (f *files) addSecret(path string) error {
	text, err := smallfile.Read(path, smallfile.Most)
	if err != nil {
		return err
	}
	key, err := parseSecret(string(text))
	if err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	f.signer.keys = append(f.signer.keys, key)
	return nil
}

func (f *files) readBearer(path string) error {
	if path == "" {
		return nil
	}
	text, err := smallfile.Read(path, smallfile.Most)
	if err != nil {
		return err
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s must hold one token on one line, without blanks", path)
	}
	f.bearer = token
	return nil
}

func (f *files) readCA(path string) error {
	if path == "" {
		return nil
	}
	text, err := smallfile.Read(path, smallfile.Most)
	if err != nil {
		return err
	}
	f.tls.RootCAs = x509.NewCertPool()
	if !f.tls.RootCAs.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return nil
}

func (f *files) readCertificate(cert, key string) error {
	if cert == "" {
		return nil
	}
	pair, err := smallfile.KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("with handler.key_file %s: %w", key, err)
	}
	f.tls.Certificates = []tls.Certificate{pair}
	return nil
}
