package webhook

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The example of the Standard Webhooks specification's own libraries.
func TestSignatureIsThatOfTheSpecification(t *testing.T) {
	key, err := parseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	signer{[][]byte{key}}.sign(h, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got := h.Get("webhook-signature"); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature is %s", got)
	}
	if h.Get("webhook-id") != "msg_p5jXN8AQM9LWM0D4loKWxJek" || h.Get("webhook-timestamp") != "1614265330" {
		t.Errorf("headers are %v", h)
	}
}

func TestEverySecretSignsDuringAChange(t *testing.T) {
	keys := [][]byte{[]byte(strings.Repeat("a", 24)), []byte(strings.Repeat("b", 64))}
	both, each := http.Header{}, [2]http.Header{{}, {}}
	signer{keys}.sign(both, "i", time.Unix(1, 0), []byte("x"))
	for i := range keys {
		signer{keys[i : i+1]}.sign(each[i], "i", time.Unix(1, 0), []byte("x"))
	}
	want := each[0].Get("webhook-signature") + " " + each[1].Get("webhook-signature")
	if got := both.Get("webhook-signature"); got != want {
		t.Errorf("signatures are %q, want %q", got, want)
	}
}

func TestSecretsOfTheWrongShapeAreRefusedUnrepeated(t *testing.T) {
	short := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23))
	for _, text := range []string{"", "hunter2", "whsec_hunter2!", short, short + "\n" + short} {
		_, err := parseSecret(text)
		if err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
