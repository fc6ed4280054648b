{{/* A chat is one request to a Gateway, and so is a stream: without `timeouts` many end it after 15 s or a minute. */}}
{{- define "elf-team.httpRoute" -}}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
spec:
  parentRefs:
    - group: gateway.networking.k8s.io
      kind: Gateway
      name: {{ .Values.httpRoute.parent | quote }}
      namespace: {{ .Values.httpRoute.parentNamespace | quote }}
      {{- with .Values.httpRoute.section }}
      sectionName: {{ . | quote }}
      {{- end }}
  hostnames:
    - {{ .Values.httpRoute.host | quote }}
  rules:
    - matches:
        - path:
            type: PathPrefix
            value: /
      timeouts:
        request: {{ printf "%ds" (int .Values.httpRoute.timeoutSeconds) }}
        backendRequest: {{ printf "%ds" (int .Values.httpRoute.timeoutSeconds) }}
      backendRefs:
        - group: ""
          kind: Service
          name: {{ include "elf-team.name" . }}
          port: 8000
          weight: 1
{{- end -}}
