# paretune on a CPU:
#   docker build -t paretune .
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" paretune run sample
# Studies, exports and caches lie in the folder that is mounted.
FROM python:3.13-slim
RUN --mount=type=bind,source=.,target=/source,rw \
    pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    "/source[minilm]"
ENV PARETUNE_HOME=/data/.paretune HOME=/data OMP_NUM_THREADS=1
WORKDIR /data
ENTRYPOINT ["paretune"]
CMD ["--help"]
