# The trainer on a GPU: docker build -f deploy/trainer.Dockerfile -t heedloop-trainer .
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 heedloop
WORKDIR /app
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY sdk sdk
COPY server server
COPY dashboard dashboard
COPY trainer trainer
RUN pip install --no-cache-dir -c constraints.txt '.[trainer,lora]' \
 && mkdir -p /runs && chown heedloop /runs

USER heedloop
WORKDIR /runs
VOLUME /runs
ENTRYPOINT ["heedloop", "train"]
CMD ["--help"]
