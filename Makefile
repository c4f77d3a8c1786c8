GO ?= go
# Built with its own dependencies, apart from those in go.mod.
LINT_VERSION := v2.12.2
LINT := bin/golangci-lint-$(LINT_VERSION)
FUZZTIME ?= 30s

.PHONY: build test check fmt vet lint imports race sim fuzz bench bench-index bench-mor bench-bootstrap interop

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/lakectl ./cmd/lakectl

test:
	$(GO) test ./...

check: fmt vet lint imports race

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not formatted, run gofmt -w on:"; echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

$(LINT):
	mkdir -p bin
	GOBIN=$(CURDIR)/bin/install GOFLAGS= $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/install/golangci-lint $@ && rmdir bin/install

# The linter's cache stands in the checkout: one that is shared with another checkout of the same code answers with the
# other's paths, and exclusions that look at the source then find nothing to look at.
lint: $(LINT)
	GOLANGCI_LINT_CACHE=$(CURDIR)/bin/lint-cache $(LINT) run ./...

imports:
	$(GO) test -count=1 ./internal/lint

# The race detector needs a C compiler. It makes everything ten times slower, so long tests run shorter.
race:
	CGO_ENABLED=1 $(GO) test -race -short -timeout 30m ./...

# Lives of a table under faults: SEEDS of them from SEED on. A failure names the one to repeat.
SEEDS ?= 10000
SEED ?= 1
sim:
	$(GO) test ./internal/sim -v -run TestLives -timeout 0 -seed $(SEED) -seeds $(SEEDS)

# Every fuzz target for FUZZTIME.
fuzz:
	@set -e; for f in $$(git grep -l '^func Fuzz' -- '*_test.go'); do \
		for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$f); do \
			echo "$$f $$t"; $(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$f); \
		done; done

bench: bench-index
	$(GO) test -run '^$$' -bench . -benchmem ./...
	bash bench/run.sh

# A hundred million keys in the map below the record index, beside Pebble. It needs 3 GB of disk.
KEYS ?= 100000000
bench-index:
	CGO_ENABLED=0 $(GO) run -C bench/keymap . -keys $(KEYS) -pebble-keys 10000000

bench-mor:
	bash bench/run.sh mor

bench-bootstrap:
	bash bench/run.sh bootstrap

interop:
	bash internal/interop/run.sh
