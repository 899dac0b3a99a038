#!/usr/bin/env bash
# Kills jobs at random moments and checks that nothing is lost: tests/chaos.rs, repeated.
#
#   scripts/chaos.sh [N] [SEED]       N trials (200), drawn with SEED (1); prints faults tried and survived by phase
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/env.sh
[ -n "${LIBTORCH:-}" ] || . scripts/env.sh
export CORELOSS_CHAOS_TRIALS=${1:-200} CORELOSS_CHAOS_SEED=${2:-1}
exec cargo test --release --test suite chaos:: -- --nocapture
