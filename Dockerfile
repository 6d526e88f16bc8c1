# The locked environment of requirements.lock, the same for laptop, server, notebook, SSH and CI. `make image` builds it
# under a name that says what is in it. The project is mounted at /project; neither data nor secrets are in the image.

# A slim Debian with Python 3.11 or newer. CUDA comes with PyTorch's wheels, the driver from the host.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b


# --- environment: what changes seldom and takes long, so that a change of code rebuilds nothing of it ---
FROM ${BASE} AS environment
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Debian withdraws old versions of its packages, so pinned ones could soon not be built again.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git make openssh-client python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/environment
COPY requirements.lock ./
COPY scripts/install.py scripts/startup.py scripts/
# Hash-checked, with bytecode, because the user that runs cannot write it later.
RUN PYTHONDONTWRITEBYTECODE=1 UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 python3 scripts/install.py
ENV VENV=/opt/environment/.venv \
    PATH=/opt/environment/.venv/bin:$PATH \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /project
# The notebook, and programs started in another folder, import the project's modules. The user becomes whoever owns the
# mounted folder (entrypoint.sh; updateRemoteUserUID of .devcontainer). No password fits '*', and unlike '!' it does not
# lock the account out of sshd.
RUN git config --system --add safe.directory /project \
    && echo /project >"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth" \
    && useradd --password '*' --uid 1000 --user-group --shell /bin/bash --create-home project
COPY docker/entrypoint.sh /usr/local/bin/entrypoint
ENTRYPOINT ["entrypoint"]


# --- jupyter: JupyterLab on 8888, by token ---
FROM environment AS jupyter
COPY requirements-jupyter.lock /opt/environment/
RUN python -m uv pip install --no-cache --require-hashes --requirement /opt/environment/requirements-jupyter.lock
ARG IMAGE=unnamed
# The port is the host's, too, so that the address that Jupyter prints is the one to open.
ENV PROJECT_IMAGE=${IMAGE} \
    JUPYTER_PORT=8888
EXPOSE 8888
HEALTHCHECK CMD ["sh", "-c", "python -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:$JUPYTER_PORT/api')\""]
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--ServerApp.allow_remote_access=True"]


# --- ssh: sshd on 2222, keys only ---
FROM environment AS ssh
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openssh-server \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*
COPY docker/sshd_config /etc/ssh/sshd_config
ARG IMAGE=unnamed
ENV PROJECT_IMAGE=${IMAGE}
EXPOSE 2222
HEALTHCHECK CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/2222"]
CMD ["sshd"]


# --- train: the default; data, `dvc repro` and the summary, on the mounted project ---
FROM environment AS train
ARG IMAGE=unnamed
ENV PROJECT_IMAGE=${IMAGE}
CMD ["make", "repro"]
