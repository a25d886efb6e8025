# ferryfs as a container. It mounts, so it needs /dev/fuse and CAP_SYS_ADMIN; for the mount to be seen outside, bind the
# target's parent with propagation "rshared" (docker-compose.yml shows it).
ARG NODE_IMAGE=node:24-bookworm-slim
FROM ${NODE_IMAGE} AS build
WORKDIR /opt/ferryfs
COPY package.json package-lock.json ./
COPY scripts scripts
# With the optional packages: koffi's binary for the platform is one, and this image has no compiler to make another.
RUN npm install --no-save --no-audit --no-fund
COPY src src
RUN node scripts/bootstrap.mjs && npm prune --omit=dev --no-audit --no-fund

FROM ${NODE_IMAGE}
# The kernel transport runs mount(8) and umount(8).
RUN apt-get update && apt-get install -y --no-install-recommends mount && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/ferryfs
COPY --from=build /opt/ferryfs/package.json ./
COPY --from=build /opt/ferryfs/node_modules node_modules
COPY --from=build /opt/ferryfs/dist dist
# SIGTERM, which engines send, unmounts and ends; give it as long as the store may need to take what is owed to it.
ENTRYPOINT ["node", "/opt/ferryfs/dist/cli/main.js"]
