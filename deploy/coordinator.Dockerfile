# The coordinator: gRPC, the job store and the artifacts; no engine and no Ray.
# Build from the repository's root: docker build -f deploy/coordinator.Dockerfile -t quantfleet-coordinator .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/quantfleet
COPY . .
RUN /opt/quantfleet/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 quantfleet \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/quantfleet --create-home --shell /usr/sbin/nologin quantfleet
COPY --from=build /opt/quantfleet /opt/quantfleet
ENV PATH=/opt/quantfleet/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/quantfleet
VOLUME /var/lib/quantfleet
# 7443: mutual TLS for nodes and users; 7444: enrolment, server TLS only.
EXPOSE 7443 7444
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 7443), 3).close()"]
ENTRYPOINT ["quantfleet"]
CMD ["coordinator", "serve", "--state", "/var/lib/quantfleet/coordinator", "--listen", "0.0.0.0:7443", "--enrol-listen", "0.0.0.0:7444", "--advertise", "coordinator"]
