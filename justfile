# What is done here often. `just` alone lists it; .ci/run needs none of this.

_:
    @{{ just_executable() }} --list --unsorted

# everything that CI runs, or some stages of it: just check fmt clippy
check *stages:
    .ci/run {{ stages }}

# the tests that need nothing but Rust
test *arguments:
    cargo test {{ arguments }}

# hostile and ordinary input, then the same with each defence taken down in turn; CORPUS_CLASS names one class
corpus *arguments:
    cargo test --test corpus {{ arguments }}
    cargo test --test corpus --features holes {{ arguments }}

# bytes that nobody has thought of: every fuzz target for so many seconds
fuzz seconds="60":
    fuzz/run all {{ seconds }}

# starts a real Keycloak on loopback and walks it; it stays up (tests/keycloak/stop ends it)
keycloak *arguments:
    tests/keycloak/start
    cargo test --test keycloak --test check -- --include-ignored --skip the_server_really_ended {{ arguments }}
    cargo test --test keycloak the_server_really_ended -- --include-ignored

# the same with the two old servers that speak UMA 1.0: Keycloak 2.5.5 and OpenAM (each stays up until its stop)
uma1 *arguments:
    tests/keycloak-2.5/start
    tests/openam/start
    cargo test --test uma_1_0 -- --include-ignored --skip the_server_really_ended --test-threads 1 {{ arguments }}
    cargo test --test uma_1_0 the_server_really_ended -- --include-ignored --test-threads 1

# foreign clients and servers through the release binary, with that Keycloak: just clients curl
clients *names:
    cargo build --release
    tests/keycloak/start
    tests/clients/run target/release/uma-gateway /dev/null {{ names }}

# the whole sequence with embedded servers, then it stays up
demo *arguments:
    cargo run --release -- demo {{ arguments }}

# CPU time per request beside nginx, on two CPUs that nothing else uses
bench *arguments:
    cargo build --release
    benches/nginx.py {{ arguments }}

# the release binary under load, with nginx, h2load, h2spec and Keycloak; all measurements or some: just load drain held
load *names:
    .ci/run release
    tests/keycloak/start
    tests/load/run target/release/uma-gateway /dev/null {{ names }}

# is every line that decides held by a test? mutants of admission, path, head, decision, cache and challenge: just mutants --only 'cache'
mutants *arguments:
    tests/mutants/run {{ arguments }}

# half of what the machine can do for an hour (SOAK_MINUTES), with reloads and faults
soak:
    .ci/run release
    tests/keycloak/start
    tests/load/run target/release/uma-gateway /dev/null --deep soak

# what takes too long or too much for every run: 1 GiB each way, 10,000 held connections, longer loads, every mutant, an hour's soak, five minutes of chance
# for each fuzz target, a systemd of its own, the same binary twice, records and a gateway that are killed 200 times each, a million records
deep *arguments:
    cargo test --test gateway -- --ignored {{ arguments }}
    STORE_KILLS=200 GATEWAY_KILLS=200 cargo test --test store -- --nocapture killed::what kills::a_gateway
    cargo test --test store -- --ignored --nocapture million
    .ci/run release
    tests/keycloak/start
    tests/load/run target/release/uma-gateway /dev/null --deep
    tests/load/run target/release/uma-gateway /dev/null --deep soak
    tests/mutants/run
    fuzz/run all 300
    .ci/run image
    tests/deploy/systemd target/{{ arch() }}-unknown-linux-musl/release/uma-gateway
    tests/deploy/reproducible
