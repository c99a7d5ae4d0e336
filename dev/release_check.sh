#!/usr/bin/env bash
# What must hold before a release: the version is in the changelog and the citation, wheel and sdist
# are built and pass `twine check`, and each of them, installed alone into a fresh environment on each
# Python, answers --version, doctor and ls. Nothing is uploaded.
#
#   dev/release_check.sh [PYTHON...]      default: python3.11 python3.12 python3.13, those there are
#
# On Linux PyPI's torch is the CUDA build (3 GB for each Python; with `uv` on the path they share a
# cache). Whatever pip or uv is configured with is obeyed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
grep -q "^## $version - " CHANGELOG.md || { echo "CHANGELOG.md has no section of $version" >&2; exit 1; }
grep -q "^version: $version$" CITATION.cff || { echo "CITATION.cff names another version" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# = 0 ]; then
    for name in python3.11 python3.12 python3.13; do
        command -v "$name" >/dev/null && set -- "$@" "$name"
    done
fi

"$1" -m venv "$work/build"
"$work/build/bin/pip" install --quiet build twine
"$work/build/bin/python" -m build --outdir "$work/dist" . >/dev/null
"$work/build/bin/twine" check --strict "$work"/dist/*

for python in "$@"; do
    for file in "$work"/dist/*.whl "$work"/dist/*.tar.gz; do
        if command -v uv >/dev/null; then
            uv venv --quiet --clear --python "$python" "$work/fresh"
            uv pip install --quiet --python "$work/fresh/bin/python" "$file"
        else
            rm -rf "$work/fresh"
            "$python" -m venv "$work/fresh"
            "$work/fresh/bin/pip" install --quiet "$file"
        fi
        # Elsewhere than in the repository, so that only what was installed can be found.
        (cd "$work" && [ "$(fresh/bin/paretune --version)" = "paretune $version" ] &&
            fresh/bin/paretune doctor >doctor.txt && fresh/bin/paretune ls >ls.txt)
        echo "$($python --version), $(basename "$file"): installed; --version, doctor and ls answer"
    done
done
