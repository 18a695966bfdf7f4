// Receives orderflow's webhooks: verifies each, takes each event once, and tells newer from older.
//
//	WEBHOOK_SECRET=whsec_… go run . 8000
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type event struct {
	ID    string `json:"id"`
	Event string `json:"event"`
	Data  struct {
		OrderID string `json:"orderId"`
		JobID   string `json:"jobId"`
	} `json:"data"`
}

// In your system these are rows, written in the transaction that does the work: a unique webhook-id, and per order (or
// job) the highest sequence seen.
var (
	lock   sync.Mutex
	taken  = map[string]bool{}
	newest = map[string]int64{}
)

// take says what an event is to us: "new", a "repeat" of one that we have, or "older" than what we know of its order.
func take(told event, sequence int64) string {
	lock.Lock()
	defer lock.Unlock()
	about := told.Data.OrderID + told.Data.JobID
	if taken[told.ID] {
		return "repeat"
	}
	taken[told.ID] = true
	if known, ok := newest[about]; ok && sequence < known {
		return "older"
	}
	newest[about] = sequence
	return "new"
}

func main() {
	hook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		// The raw bytes are signed: verify before anything parses them.
		body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, 1<<20))
		if err != nil || hook.Verify(body, request.Header) != nil {
			response.WriteHeader(http.StatusUnauthorized)
			return
		}
		var told event
		sequence, err := strconv.ParseInt(request.Header.Get("X-Webhook-Sequence"), 10, 64)
		if err != nil || json.Unmarshal(body, &told) != nil {
			response.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Printf("{\"id\": %q, \"event\": %q, \"verdict\": %q}\n", told.ID, told.Event, take(told, sequence))
		response.WriteHeader(http.StatusNoContent) // for repeats too: anything else is tried again
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %d\n", listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, nil))
}
