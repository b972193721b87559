package access

import (
	"fmt"
	"strings"
	"testing"
)

const aKey = "UB7NLGYK6JTZ2SZQSHHHANNZ72Z6G4F2PKFNSMEUPB5A6NYCAVX6JFIL"

func TestUsersReportEveryFaultByItsKey(t *testing.T) {
	good := UserConfig{Name: "press-4", PasswordFile: "x", Publish: []string{"orders"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for key, spoil := range map[string]func(*UserConfig){
		"name: ":                         func(u *UserConfig) { u.Name = "a b" },
		"name: \"\"":                     func(u *UserConfig) { u.Name = "" },
		"password_file: a user needs":    func(u *UserConfig) { u.PasswordFile = "" },
		"nkey: there is a password_file": func(u *UserConfig) { u.NKey = aKey },
		"nkey: is not a public":          func(u *UserConfig) { u.PasswordFile, u.NKey = "", "A"+aKey[1:] },
		"nkey: this looks like a seed":   func(u *UserConfig) { u.PasswordFile, u.NKey = "", "SUABC" },
		"publish: names no topic":        func(u *UserConfig) { u.Publish = nil },
		"serve: a user publishes or":     func(u *UserConfig) { u.Serve = []string{"billing"} },
	} {
		u := good
		spoil(&u)
		err := u.Validate()
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("user %q: %s", u.Name, key)) {
			t.Errorf("error %v does not say %q", err, key)
		}
		if err != nil && strings.Contains(err.Error(), "SUABC") {
			t.Errorf("error %v repeats a seed", err)
		}
	}
}

func TestPasswordFilesHoldHashesOnly(t *testing.T) {
	hash, err := HashPassword([]byte("press-password"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePasswordHash(" " + hash + "\n"); err != nil || got != hash {
		t.Errorf("own hash: %q, %v", got, err)
	}
	for name, text := range map[string]string{
		"empty": "", "a password": "hunter2-hunter2", "two hashes": hash + "\n" + hash, "cut": hash[:59],
		"too dear": strings.Replace(hash, "$10$", "$14$", 1), "impossible": strings.Replace(hash, "$10$", "$99$", 1),
		"injected": hash[:40] + `", permissions: {}`, "variable": "$PASSWORD",
	} {
		if _, err := ParsePasswordHash(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
