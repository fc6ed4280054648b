{{/*
By the class come the annotations that keep a stream or a chat open: nginx cuts off what is silent for a minute, and
collects an answer before it passes it on. Traefik does neither; it has to be told where TLS ends.
*/}}
{{- define "elf-team.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
  {{- $own := dict }}
  {{- $seconds := .Values.ingress.timeoutSeconds | int | toString }}
  {{- if eq .Values.ingress.className "nginx" }}
  {{- $_ := set $own "nginx.ingress.kubernetes.io/proxy-read-timeout" $seconds }}
  {{- $_ := set $own "nginx.ingress.kubernetes.io/proxy-send-timeout" $seconds }}
  {{- $_ := set $own "nginx.ingress.kubernetes.io/proxy-buffering" "off" }}
  {{- $_ := set $own "nginx.ingress.kubernetes.io/proxy-http-version" "1.1" }}
  {{- $_ := set $own "nginx.ingress.kubernetes.io/proxy-body-size" "2m" }}
  {{- else if and (eq .Values.ingress.className "traefik") .Values.ingress.tlsSecret }}
  {{- $_ := set $own "traefik.ingress.kubernetes.io/router.entrypoints" "websecure" }}
  {{- $_ := set $own "traefik.ingress.kubernetes.io/router.tls" "true" }}
  {{- end }}
  {{- range $key, $value := .Values.ingress.annotations }}
  {{- $_ := set $own $key $value }}
  {{- end }}
  {{- with $own }}
  annotations:
    {{- range $key, $value := . }}
    {{ $key | quote }}: {{ $value | quote }}
    {{- end }}
  {{- end }}
spec:
  ingressClassName: {{ .Values.ingress.className | quote }}
  {{- with .Values.ingress.tlsSecret }}
  tls:
    - hosts:
        - {{ $.Values.ingress.host | quote }}
      secretName: {{ . | quote }}
  {{- end }}
  rules:
    - host: {{ .Values.ingress.host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ include "elf-team.name" . }}
                port:
                  name: http
{{- end -}}
