#!/bin/sh
# What Dockerfile and pathseg.def have in common: Debian's Python, and the locked packages in /opt/pathseg/venv.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates python3 python3-venv
rm -rf /var/lib/apt/lists/*
python3 -m venv /opt/pathseg/venv
PIP_NO_CACHE_DIR=1 /opt/pathseg/venv/bin/python /opt/pathseg/envs/install.py /opt/pathseg/requirements.txt
