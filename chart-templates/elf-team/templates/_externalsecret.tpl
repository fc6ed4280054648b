{{/* One object for each Secret that the store fills, in a list that ends every item with a separator. */}}
{{- define "elf-team.externalSecrets" -}}
{{- range .Values.externalSecrets.secrets }}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  {{- include "elf-team.metadata" (dict "root" $ "name" .name) | nindent 2 }}
spec:
  refreshInterval: {{ $.Values.externalSecrets.refresh }}
  secretStoreRef:
    kind: {{ $.Values.externalSecrets.kind }}
    name: {{ $.Values.externalSecrets.store | quote }}
  target:
    name: {{ .name | quote }}
    creationPolicy: Owner
    deletionPolicy: Retain
  data:
    {{- $path := .path }}
    {{- range .keys }}
    - secretKey: {{ . | quote }}
      remoteRef:
        key: {{ $path | quote }}
        property: {{ . | quote }}
        conversionStrategy: Default
        decodingStrategy: None
        metadataPolicy: None
    {{- end }}
{{- end }}
{{- end -}}
