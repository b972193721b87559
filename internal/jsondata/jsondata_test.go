package jsondata

import (
	"encoding/json"
	"testing"
)

func TestTextStaysTextAndBytesStayBytes(t *testing.T) {
	for data, want := range map[string]string{"": `{"data":""}`, "hi ü": `{"data":"hi ü"}`,
		"\xff\x00": `{"data_b64":"/wA="}`} {
		text, err := json.Marshal(New([]byte(data)))
		if err != nil || string(text) != want {
			t.Errorf("%q: got %s, %v, want %s", data, text, err, want)
		}
		var back Payload
		if err := json.Unmarshal(text, &back); err != nil || string(back.Bytes()) != data {
			t.Errorf("%q came back as %q, %v", data, back.Bytes(), err)
		}
	}
}

func TestSizeIsEnough(t *testing.T) {
	for _, data := range []string{"", "plain", "\x01\x02\n", `"\`, "<&>", "\u2028\u2029ü", "\xff\xfe\xfd", "\x7f"} {
		text, err := json.Marshal(New([]byte(data)))
		if size := New([]byte(data)).Size(); err != nil || size+len(`{"data_b64":""}`) < len(text) || size > 6*len(data)+4 {
			t.Errorf("%q: Size %d, JSON %s", data, size, text)
		}
	}
}
