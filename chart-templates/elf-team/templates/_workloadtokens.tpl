{{/*
What a pod needs to call its neighbours and to know them: a token for each callee, with that callee's audience alone;
the keys of the cluster, by which callers' tokens are checked; and the edges. One volume at /run/elf:

    edges.json          the ConfigMap with the edges
    tokens/<callee>     the token for it
    jwks/token          for the API server, where the keys come from there
    jwks/ca.crt         by which it is trusted, as in every namespace
    jwks/keys.json      the keys, where they come from a ConfigMap
    jwks/people.json    those of people's tokens, the same
*/}}
{{- define "elf-team.workloadVolume" -}}
- name: workload
  projected:
    defaultMode: 288 # 0440
    sources:
      - configMap:
          name: {{ include "elf-team.edgesName" . }}
          items:
            - key: edges.json
              path: edges.json
      {{- with .Values.workloadTokens }}
      {{- if .enabled }}
      {{- range $.Values.edges.callees }}
      - serviceAccountToken:
          audience: {{ .audience | quote }}
          expirationSeconds: {{ $.Values.workloadTokens.expirationSeconds | int }}
          path: {{ printf "tokens/%s" .team | quote }}
      {{- end }}
      {{- if eq .keys "api-server" }}
      - serviceAccountToken:
          expirationSeconds: {{ .expirationSeconds | int }}
          path: jwks/token
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: jwks/ca.crt
      {{- else if eq .keys "config-map" }}
      - configMap:
          name: {{ .configMap.name | quote }}
          items:
            - key: {{ .configMap.key | quote }}
              path: jwks/keys.json
          # Until it is there the team starts, and lets nobody in.
          optional: true
      {{- end }}
      {{- end }}
      {{- end }}
      {{- with .Values.issuer }}
      {{- if and .url .configMap.name }}
      - configMap:
          name: {{ .configMap.name | quote }}
          items:
            - key: {{ .configMap.key | quote }}
              path: jwks/people.json
          optional: true
      {{- end }}
      {{- end }}
{{- end -}}

{{- define "elf-team.workloadMount" -}}
- name: workload
  mountPath: /run/elf
  readOnly: true
{{- end -}}

{{/* What the process is told of it. */}}
{{- define "elf-team.workloadData" -}}
ELF_EDGES_FILE: /run/elf/edges.json
{{- with .Values.workloadTokens }}
{{- if .enabled }}
ELF_TEAM_TOKENS: /run/elf/tokens
ELF_WORKLOAD_ISSUER: {{ .issuer | quote }}
ELF_WORKLOAD_JWKS_ALGORITHM: {{ .algorithm }}
{{- if eq .keys "api-server" }}
ELF_WORKLOAD_JWKS_CA_FILE: /run/elf/jwks/ca.crt
ELF_WORKLOAD_JWKS_TOKEN_FILE: /run/elf/jwks/token
ELF_WORKLOAD_JWKS_URL: https://kubernetes.default.svc/openid/v1/jwks
{{- else if eq .keys "config-map" }}
ELF_WORKLOAD_JWKS_FILE: /run/elf/jwks/keys.json
{{- else if .jwksUrl }}
ELF_WORKLOAD_JWKS_URL: {{ .jwksUrl | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.issuer }}
{{- if .url }}
ELF_ISSUER: {{ .url | quote }}
ELF_JWKS_ALGORITHM: {{ .algorithm }}
{{- if .configMap.name }}
ELF_JWKS_FILE: /run/elf/jwks/people.json
{{- else if .jwksUrl }}
ELF_JWKS_URL: {{ .jwksUrl | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
