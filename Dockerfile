# ferryfs as a container. It mounts, so it needs /dev/fuse and CAP_SYS_ADMIN; for the mount to be seen outside, bind the
# target's parent with propagation "shared" (docker-compose.yml shows it).
ARG NODE_IMAGE=node:24-bookworm-slim
FROM ${NODE_IMAGE} AS build
WORKDIR /opt/ferryfs
COPY package.json package-lock.json tsconfig.json tsconfig.build.json ./
COPY scripts scripts
RUN npm install --no-save --no-audit --no-fund --omit=optional
COPY src src
RUN node scripts/bootstrap.mjs && npm prune --omit=dev --omit=optional

FROM ${NODE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends mount procps && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/ferryfs
COPY --from=build /opt/ferryfs/package.json ./
COPY --from=build /opt/ferryfs/node_modules node_modules
COPY --from=build /opt/ferryfs/dist dist
ENTRYPOINT ["node", "/opt/ferryfs/dist/cli/main.js"]
