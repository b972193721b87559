package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of a signing secret, in bytes, as Standard Webhooks specifies them.
const (
	secretPrefix = "whsec_"
	minSecret    = 24
	maxSecret    = 64
)

// signer signs requests as Standard Webhooks specifies it. While a secret is being changed there are two of them, and
// receivers accept a request if one of its signatures is right.
type signer struct{ keys [][]byte }

// parseSecret parses the content of one of secret_files. Its errors do not repeat the content.
func parseSecret(text string) ([]byte, error) {
	coded, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(coded)
	if !ok || err != nil {
		return nil, errors.New("must hold one secret, \"whsec_\" and base64, like: echo whsec_$(openssl rand -base64 32)")
	}
	if len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("holds a secret of %d bytes, must be %d to %d", len(key), minSecret, maxSecret)
	}
	return key, nil
}

// sign adds the headers for a body to be sent now. The id is the same in every attempt, the time is not.
func (s signer) sign(h http.Header, id string, now time.Time, body []byte) {
	if len(s.keys) == 0 {
		return
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	var signatures []string
	for _, key := range s.keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
}
