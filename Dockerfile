# Parsewire in one image; the command says which process it is.
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 parsewire && mkdir /data && chown parsewire /data
WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY streams streams
COPY services services
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

USER parsewire
ENV PARSEWIRE_DATA_DIR=/data \
    PARSEWIRE_GATEWAY_HOST=0.0.0.0 \
    PARSEWIRE_METRICS_HOST=0.0.0.0 \
    PARSEWIRE_LOG_FORMAT=json
VOLUME /data
EXPOSE 8080 9100 9101
ENTRYPOINT ["parsewire"]
CMD ["gateway"]
