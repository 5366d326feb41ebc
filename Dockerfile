# pathseg with all that it needs, Snakemake too: docker build --tag pathseg . (or podman, buildah); docs/install.md.
ARG BASE=debian:bookworm-slim@sha256:3783cc01769c7b2b1b83a5c5ad96c815348e28ed7da68e2e3687004faa906251
FROM ${BASE}
# As in docs/install.md: where pip looks for a build of PyTorch without CUDA, or for everything.
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
COPY requirements.txt requirements-cpu.txt /opt/pathseg/
COPY envs /opt/pathseg/envs
RUN sh /opt/pathseg/envs/container.sh
COPY Snakefile LICENSE README.md /opt/pathseg/
COPY config /opt/pathseg/config
COPY profiles /opt/pathseg/profiles
COPY report /opt/pathseg/report
COPY rules /opt/pathseg/rules
COPY scripts /opt/pathseg/scripts
# Packages of a user's own home must not shadow the image's.
ENV PATH=/opt/pathseg/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONNOUSERSITE=1
ENTRYPOINT ["snakemake", "--snakefile", "/opt/pathseg/Snakefile"]
