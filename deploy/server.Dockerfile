# The server (and, with another command, the dashboard): docker build -f deploy/server.Dockerfile -t heedloop-server .
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 heedloop
WORKDIR /app
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY sdk sdk
COPY server server
COPY dashboard dashboard
COPY trainer trainer
RUN pip install --no-cache-dir -c constraints.txt '.[server,embedded,dashboard]' \
 && mkdir -p /data && chown heedloop /data

USER heedloop
ENV HEEDLOOP_HOST=0.0.0.0 HEEDLOOP_PORT=8321 HEEDLOOP_DATA=/data
EXPOSE 8321
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/readyz', timeout=4)"]
# the log is drained on SIGTERM: give it time
STOPSIGNAL SIGTERM
CMD ["heedloop", "serve", "--key-file", "/data/first-key"]
