package admin

import (
	"testing"

	"leasehold/internal/api"
)

func TestAMessageBeforeTheStartOfAGroupWasNeverTheGroups(t *testing.T) {
	v, m := api.ExplainedGroup{Group: "billing"}, api.Message{Seq: 3}
	if err := (Explainer{}).locate(t.Context(), &v, &m, 3); err != nil || v.Place != api.PlaceBeforeStart {
		t.Errorf("%+v, %v", v, err)
	}
}
