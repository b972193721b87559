package worker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"leasehold/internal/smallfile"
)

// KeyedFile is a file that a key of the config names.
type KeyedFile struct{ Key, Path string }

// PrivateFiles lists the files whose content nobody else may read.
func (h HandlerConfig) PrivateFiles() (files []KeyedFile) {
	for _, path := range h.SecretFiles {
		files = append(files, KeyedFile{"handler.secret_files", path})
	}
	for _, f := range []KeyedFile{{"handler.bearer_file", h.BearerFile}, {"handler.key_file", h.KeyFile}} {
		if f.Path != "" {
			files = append(files, f)
		}
	}
	return files
}

// Files lists the files that the config names.
func (h HandlerConfig) Files() (names []string) {
	h.WithFiles(func(name string) string {
		if name != "" {
			names = append(names, name)
		}
		return name
	})
	return names
}

// WithFiles returns h with find's answer in place of each file's name.
func (h HandlerConfig) WithFiles(find func(name string) string) HandlerConfig {
	h.SecretFiles = slices.Clone(h.SecretFiles)
	for i, name := range h.SecretFiles {
		h.SecretFiles[i] = find(name)
	}
	for _, name := range []*string{&h.BearerFile, &h.CAFile, &h.CertFile, &h.KeyFile} {
		*name = find(*name)
	}
	return h
}

// CheckFiles reports every fault of the files that the config names, each by its key.
func (h HandlerConfig) CheckFiles() error {
	_, err := readHTTPFiles(h)
	return err
}

// httpFiles is what the files of an http handler hold.
type httpFiles struct {
	signer signer
	bearer string
	tls    *tls.Config
}

// readHTTPFiles reads all files and reports every fault. A config of another kind names none.
func readHTTPFiles(cfg HandlerConfig) (httpFiles, error) {
	f := httpFiles{tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	var faults []error
	note := func(key string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
		}
	}
	for _, path := range cfg.SecretFiles {
		note("handler.secret_files", f.addSecret(path))
	}
	note("handler.bearer_file", f.readBearer(cfg.BearerFile))
	note("handler.ca_file", f.readCA(cfg.CAFile))
	note("handler.cert_file", f.readCertificate(cfg.CertFile, cfg.KeyFile))
	return f, errors.Join(faults...)
}

func (f *httpFiles) addSecret(path string) error {
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

func (f *httpFiles) readBearer(path string) error {
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

func (f *httpFiles) readCA(path string) error {
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

func (f *httpFiles) readCertificate(cert, key string) error {
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
